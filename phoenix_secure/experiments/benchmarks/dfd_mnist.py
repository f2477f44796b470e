"""Rows beside the MNIST table of a paper on few images at non-IID sites.

The setting of DfD (Hahn and Lee 2025, "Diffusion Federated Dataset", section 5.1 and appendix D):
ten sites with about 300 images each, MNIST at 32x32, Dirichlet(0.1) over labels or two classes a
site, 1,000 rounds of 10 steps of 32 images; (10, 1e-5)-differential privacy where there is any.
LogReg, MLP and CNN are trained on synthetic images alone and read the 10,000 test images.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks.row import ALWAYS, BenchmarkRow, Outcome, planned
from phoenix_secure.experiments.benchmarks.table import Column, TableForm

__all__ = ["DATASETS", "NUM_IMAGES", "Method", "Partition", "Row", "epsilon_of", "plan_rows"]

NUM_IMAGES = 10_000  # the paper does not say how many it trains its classifiers on
DELTA = 1e-5
_SITES = 10
_SITE_IMAGES = 300
_BATCH = 32
# A release is always noised. So little is as good as none, and the row says so.
_LARGEST_EPSILON = 1000.0


class Method(StrEnum):
    """One noised release; the same, whose images a private classifier selects; a DDPM by FedAvg;
    a DDPM by one sum of gradients a step."""

    RELEASE = "release"
    SELECTED = "selected"
    FEDAVG = "fedavg"
    GRADIENTS = "gradients"

    @property
    def is_release(self) -> bool:
        return self in (Method.RELEASE, Method.SELECTED)


class Partition(StrEnum):
    """How the images are dealt out: Dirichlet(0.1) over labels, or two label shards a site."""

    DIRICHLET = "dirichlet"
    TWO_CLASSES = "two-classes"


# `digits` is for practice: it has no published test part, and its held-out images stand in.
DATASETS = {
    "mnist": (
        "data.image_size=32",
        "data.fraction=0.05",  # 3,000 of the 60,000, others for each seed
        "data.held_out=0",
        "data.reference=0",
    ),
    "digits": ("data.held_out=0.2", "data.reference=0"),
}
_PARTITIONS = {
    Partition.DIRICHLET: ("partition.scheme=dirichlet", "partition.alpha=0.1"),
    Partition.TWO_CLASSES: ("partition.scheme=shards", "partition.shards_per_site=2"),
}
# What two cores bear: a quarter of an hour of one core, where the paper takes an A100.
_DDPM = (
    "model.block_channels=[32,64]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.class_conditional=true",
    "diffusion.prediction=v",
    "training.weight_decay=0",
    "training.lr_decay=none",
    "training.warmup_steps=0",
    "ema.decay=0.99",
    "sampling.sampler=dpm-solver",
    "sampling.num_steps=15",
    f"training.batch_size={_BATCH}",
)
_STEPS = {
    Method.FEDAVG: (
        "federation.rounds=100",
        "training.local_steps=10",  # theirs
        "training.learning_rate=0.002",
    ),
    Method.GRADIENTS: (
        "federation.exchange=gradients",
        "federation.rounds=600",
        "federation.server_optimizer=fedadam",
        "training.local_steps=1",
        "training.learning_rate=0.005",
        "training.grad_clip=null",
        "secure_aggregation.word_bits=32",
        "secure_aggregation.clip_value=8",
    ),
}

FORM = TableForm(
    command="dfd-mnist",
    columns=(
        *("method", "epsilon", "seed", "fd", "precision", "recall", "logreg", "mlp", "cnn"),
        *("core_hours", "command", "partition"),
    ),
    kinds=(
        Column("method", "method"),
        Column("partition", "sites' images"),
        Column("epsilon", "epsilon"),
    ),
    shown=(
        Column("logreg", "LogReg", digits=3),
        Column("mlp", "MLP", digits=3),
        Column("cnn", "CNN", digits=3),
        Column("fd", "FD", digits=1),
        Column("precision", "precision", digits=2),
        Column("recall", "recall", digits=2),
        Column("core_hours", "core-hours", digits=2),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(BenchmarkRow):
    """One row of the table. ``epsilon`` None: without privacy."""

    form: ClassVar[TableForm] = FORM
    pixel_classifiers: ClassVar[bool] = True

    dataset: str = "mnist"
    method: Method
    partition: Partition
    epsilon: float | None
    num_images: int = NUM_IMAGES

    @property
    def config(self) -> RunConfig:
        # The shipped settings as they are: nothing was chosen for this benchmark.
        base = self.method.value if self.method is Method.SELECTED else "private"
        return load_config(base if self.method.is_release else None, self._settings)

    @property
    def label(self) -> str:
        what = (self.dataset, self.partition, self.method)
        return f"{'-'.join(what)}-epsilon-{self._epsilon_text}-seed-{self.seed}"

    @property
    def delta(self) -> float | None:
        return None if self.epsilon is None else DELTA

    @property
    def command(self) -> str:
        words = ["phoenix-secure", "benchmark", "dfd-mnist", "--method", self.method]
        words += ["--partition", self.partition, "--epsilon", self._epsilon_text]
        words += ["--seed", str(self.seed)]
        if self.dataset != "mnist":
            words += ["--dataset", self.dataset]
        if self.num_images != NUM_IMAGES:
            words += ["--num-images", str(self.num_images)]
        return shlex.join([*words, *self.overrides])

    def cells(self, outcome: Outcome) -> dict[str, str]:
        figures = outcome.figures
        return {
            "method": self.method.value,
            "epsilon": self._epsilon_text,
            "seed": str(self.seed),
            "fd": f"{figures.fd:.3f}",
            "precision": f"{figures.precision:.4f}",
            "recall": f"{figures.recall:.4f}",
            "logreg": f"{figures.logreg:.4f}",
            "mlp": f"{figures.mlp:.4f}",
            "cnn": f"{figures.accuracy:.4f}",
            "core_hours": f"{outcome.core_hours:.3f}",
            "command": self.command,
            "partition": self.partition.value,
        }

    @property
    def _epsilon_text(self) -> str:
        return "none" if self.epsilon is None else f"{self.epsilon:g}"

    @property
    def _settings(self) -> list[str]:
        found = [
            f"seed={self.seed}",
            f"data.name={self.dataset}",
            "data.split=keyed",  # with privacy or without: the same images for a seed
            *DATASETS[self.dataset],
            f"partition.num_sites={_SITES}",
            *_PARTITIONS[self.partition],
            "secure_aggregation.dropout=0.1",
            *ALWAYS,
        ]
        if self.method is Method.SELECTED:
            found.append(f"training.batch_size={_SITE_IMAGES}")  # the divisor
        if self.method.is_release:
            found += [f"privacy.epsilon={self.epsilon!r}", f"privacy.delta={DELTA!r}"]
        else:
            found += [*_DDPM, f"model.space_to_depth={4 if self.dataset == 'mnist' else 1}"]
            found += _STEPS[self.method]
            found += self._privacy_of_steps()
        return [*found, *self.overrides]

    def _privacy_of_steps(self) -> list[str]:
        if self.epsilon is None:
            return []
        # As many images in a step as without privacy.
        found = [
            "privacy.unit=record",
            f"privacy.epsilon={self.epsilon!r}",
            f"privacy.delta={DELTA!r}",
            f"privacy.sampling_rate={_BATCH / _SITE_IMAGES:.3g}",
            "privacy.clip_norm=0.5",
            "training.grad_clip=null",
        ]
        if self.method is Method.GRADIENTS:
            found.append("privacy.trust=sum")  # else each site makes all of its noise, as in DfD
        return found


def epsilon_of(text: str) -> float | None:
    """The value of ``--epsilon``: a positive number, or None for ``none``.

    Raises:     ConfigError.
    """
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"--epsilon {text}: a number above 0, or none for no privacy")
    return value


def plan_rows(
    *,
    dataset: str = "mnist",
    methods: Sequence[Method],
    partitions: Sequence[Partition],
    epsilons: Sequence[float | None],
    seeds: Sequence[int],
    num_images: int = NUM_IMAGES,
    overrides: Sequence[str] = (),
) -> list[Row]:
    """Every combination; seeds vary slowest, so that all rows come once first.

    An epsilon of None is 1000 for a release, which is always noised.

    Raises:     ConfigError naming the option.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"--dataset {dataset}: use {', '.join(DATASETS)}")
    return planned(
        [
            Row(
                dataset=dataset,
                method=method,
                partition=partition,
                epsilon=_LARGEST_EPSILON if method.is_release and epsilon is None else epsilon,
                seed=seed,
                num_images=num_images,
                overrides=tuple(overrides),
            )
            for seed, method, epsilon, partition in itertools.product(
                seeds, methods, epsilons, partitions
            )
        ]
    )
