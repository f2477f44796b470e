"""A plug-in with an extension of every point that one run, its audit and its report use.

In a package of your own, name each function in an entry point in place of ``ps.register``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import phoenix_secure as ps


def digits_by_writer(path: str | None) -> dict[str, Any]:
    """A data source: 8x8 digits, padded to nothing, labelled."""
    bunch = load_digits()
    images = np.uint8(bunch.images[:, None] * 15.9)
    return {"images": images, "labels": bunch.target, "class_names": list("0123456789")}


def odd_and_even(
    labels: np.ndarray | None, *, num_images: int, num_sites: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """A partition: half of the sites hold odd digits, the others even ones."""
    assert labels is not None
    order = np.concatenate([np.flatnonzero(labels % 2 == parity) for parity in (0, 1)])
    return list(np.array_split(order, num_sites))


class TwoLayers(torch.nn.Module):
    """A network with the U-Net's call; far too small to draw well."""

    def __init__(self, *, image_size: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(channels + 1, 16, 3, padding=1)
        self.last = torch.nn.Conv2d(16, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        level = (t / 1000).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.last(torch.nn.functional.silu(self.first(torch.cat([x, level], dim=1))))


def sign_momentum(
    update: np.ndarray,
    *,
    parameters: np.ndarray,
    momentum: np.ndarray,
    second_moment: np.ndarray,
    rate: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A server optimizer: a fixed step in the direction of the momentum, coordinate by coordinate
    (Bernstein et al. 2018, signSGD with momentum)."""
    momentum = 0.9 * momentum + 0.1 * update
    return parameters + rate * np.sign(momentum), momentum, second_moment


def normalised(
    update: np.ndarray, *, parameters: np.ndarray, round_number: int, num_steps: int
) -> np.ndarray:
    """A heterogeneity strategy: a site that took more steps counts no more for it
    (Wang et al. 2020, FedNova, equation 6 for plain SGD)."""
    return update / num_steps


def smoothness(
    x: np.ndarray, *, eps: Any, alpha_bar: np.ndarray, t: int, rng: np.random.Generator
) -> np.ndarray:
    """An attack: the denoiser's answer to the image itself, small for members."""
    return -np.square(eps(x, t)).mean(axis=(1, 2, 3))


def brightness(generated: np.ndarray, reference: np.ndarray) -> float:
    """A metric: how much brighter the generated images are."""
    return float(generated.mean() - reference.mean())


def print_loss(run_dir: Path, line: Mapping[str, Any]) -> None:
    """A tracker."""
    print(f"{run_dir.name}: round {line['round_number']}, loss {line['loss']}")


def gaps_by_section(report: Any) -> ps.ReportSection:
    """A report section: how many questions of each part have no answer."""
    letters = sorted({field.id[0] for field in report.fields})
    counts = {letter: sum(gap.id[0] == letter for gap in report.gaps) for letter in letters}
    return ps.ReportSection(
        title="Gaps by part",
        text=[f"{len(report.gaps)} questions of the chosen profiles have no answer."],
        columns=["part", "without an answer"],
        rows=[[letter, str(count)] for letter, count in counts.items()],
    )


ps.register("data_source", "digits-by-writer", digits_by_writer)
ps.register("partition", "odd-and-even", odd_and_even)
ps.register("network", "two-layers", TwoLayers)
ps.register("server_optimizer", "sign-momentum", sign_momentum)
ps.register("heterogeneity_strategy", "normalised", normalised)
ps.register("attack", "smoothness", smoothness)
ps.register("metric", "brightness", brightness)
ps.register("tracker", "print-loss", print_loss)
ps.register("report_section", "gaps-by-section", gaps_by_section)

SETTINGS = {
    "data": {"name": "digits-by-writer"},
    "partition": {"scheme": "odd-and-even", "num_sites": 5},
    "model": {"network": "two-layers"},
    "training": {"batch_size": 16, "local_steps": 4},
    "federation": {
        "rounds": 2,
        "server_optimizer": "sign-momentum",
        "server_learning_rate": 1e-3,
    },
    "exchange": {"strategy": "normalised"},
    "sampling": {"num_steps": 5},
    "evaluation": {"num_images": 100, "metrics": ["brightness"]},
    "output": {"trackers": ["print-loss"]},
}

if __name__ == "__main__":
    result = ps.run(SETTINGS, run_dir="runs/plug-in", overwrite=True)
    print(result.summary.quality["rows"]["generated"])  # type: ignore[index]
    print(result.audit(profile="smoke", attacks=["smoothness", "loss"]))
    print(result.report(sections=["gaps-by-section"]))
