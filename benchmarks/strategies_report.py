"""The table and plots of the comparison, from the figures that its runs left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

FolderOf = Callable[[Path, str], Path]
Figures = dict[str, list[dict[str, Any]]]  # "split/method" -> one entry a seed


def report(out: Path, to: Path, *, grid: dict[str, list[str]], folder_of: FolderOf) -> None:
    """Write ``strategies.md`` and the pictures into ``to``; missing runs are left out."""
    to.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    grids: dict[str, Path] = {}
    for name in grid:
        row, _, seed = name.rpartition("/")
        folder = folder_of(out, name)
        if not (folder / "measured.json").exists():
            continue
        figures.setdefault(row, []).append(json.loads((folder / "measured.json").read_text()))
        if seed == "1":
            grids[row] = folder / "grid.png"
    ends = json.loads((out / "ends.json").read_text()) if (out / "ends.json").exists() else {}
    (to / "strategies.md").write_text(_table(figures, ends))
    _coverage_plot(figures, to / "strategies-classes.png")
    for split in ("shards", "dirichlet", "why"):
        _samples(grids, split, to / f"strategies-samples-{split}.png")
    _sweep_plot(figures, to / "strategies-sharing.png")
    print((to / "strategies.md").read_text())


def _main(found: dict[str, Any]) -> dict[str, Any]:
    """Personal models where there are some, else the global one."""
    return found.get("personal", found["global"])


def _mean(values: list[float], digits: int) -> str:
    text = f"{np.mean(values):.{digits}f}"
    return f"{text} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else text


def _kid(runs: list[dict[str, Any]]) -> float:
    return float(np.mean([_main(run)["kid"] for run in runs]))


def _table(figures: Figures, ends: dict[str, Any]) -> str:
    lines = [
        "| split | method | seeds | KID | gap closed | precision | recall | class TV "
        "| MB up | MB down | sat out | seconds |",
        "|" + "---|" * 12,
    ]
    central = figures.get("one place/central")
    for row, runs in figures.items():
        split, method = row.split("/")
        if split in ("sweep", "why"):
            continue
        base = figures.get(f"{split}/FedAvg")
        closed = ""
        if central and base and method not in ("central", "FedAvg"):
            gap = _kid(base) - _kid(central)
            closed = f"{100 * (_kid(base) - _kid(runs)) / gap:.0f} %"
        shown = [_main(run) for run in runs]
        is_central = method == "central"  # its bytes never leave the one place
        up = 0 if is_central else np.mean([run["bytes_up"] for run in runs]) / 1e6
        down = 0 if is_central else np.mean([run["bytes_down"] for run in runs]) / 1e6
        lines.append(
            f"| {split} | {method} | {len(runs)} | {_mean([s['kid'] for s in shown], 2)} "
            f"| {closed} "
            f"| {_mean([s['precision'] for s in shown], 3)} "
            f"| {_mean([s['recall'] for s in shown], 3)} "
            f"| {_mean([s['total_variation'] for s in shown], 3)} "
            f"| {up:,.0f} | {down:,.0f} "
            f"| {np.mean([run['refusals'] for run in runs]):.0f} "
            f"| {np.mean([run['seconds'] for run in runs]):.0f} |"
        )
    lines += [
        f"| | {name} | | {found['kid']:.2f} | | {found['precision']:.3f} | {found['recall']:.3f} "
        f"| {found['total_variation']:.3f} | | | | |"
        for name, found in ends.items()
    ]
    lines += ["", "| why | KID | precision | recall | class TV |", "|---|---|---|---|---|"]
    for row, runs in figures.items():
        if row.startswith("why/"):
            shown = _main(runs[0])
            lines.append(
                f"| {row.removeprefix('why/')} | {shown['kid']:.2f} | {shown['precision']:.3f} "
                f"| {shown['recall']:.3f} | {shown['total_variation']:.3f} |"
            )
    lines += ["", "| beta | alpha | KID | recall | class TV |", "|---|---|---|---|---|"]
    for row, runs in figures.items():
        if row.startswith("sweep/"):
            _, beta, _, alpha = row.removeprefix("sweep/").split(" ")
            shown = _main(runs[0])
            lines.append(
                f"| {beta} | {alpha} | {shown['kid']:.2f} | {shown['recall']:.3f} "
                f"| {shown['total_variation']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def _coverage_plot(figures: Figures, path: Path) -> None:
    """Share of each class among 2,000 samples, one panel a split, one line a method."""
    splits = [split for split in ("shards", "dirichlet") if f"{split}/FedAvg" in figures]
    if not splits:
        return
    figure, panels = plt.subplots(
        1, len(splits), figsize=(5.5 * len(splits), 4.2), squeeze=False, sharey=True
    )
    central = figures.get("one place/central")
    for panel, split in zip(panels[0], splits, strict=True):
        rows = {
            row.split("/")[1]: runs for row, runs in figures.items() if row.startswith(f"{split}/")
        }
        if central:
            rows = {"central": central, **rows}
        shares = np.array(
            [
                np.mean(
                    [
                        np.array(_main(run)["histogram"]) / sum(_main(run)["histogram"])
                        for run in runs
                    ],
                    axis=0,
                )
                for runs in rows.values()
            ]
        )
        image = panel.imshow(shares, cmap="viridis", vmin=0, vmax=0.4, aspect="auto")
        for (i, j), share in np.ndenumerate(shares):
            colour = "black" if share > 0.25 else "white"
            panel.text(
                j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour
            )
        panel.set_yticks(range(len(rows)), list(rows), fontsize=8)
        panel.set_xticks(range(shares.shape[1]))
        panel.set_xlabel("class")
        panel.set_title(f"{split}: % of samples in each class (even: 10)", fontsize=9)
    figure.colorbar(image, ax=panels[0].tolist(), fraction=0.02)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _samples(grids: dict[str, Path], split: str, path: Path) -> None:
    """40 samples of every method of one split, seed 1, the same noise in each place."""
    rows = {name.split("/")[1]: file for name, file in grids.items() if name.startswith(split)}
    if "one place/central" in grids and split != "why":
        rows = {"central": grids["one place/central"], **rows}
    if not rows:
        return
    figure, panels = plt.subplots(2, 4, figsize=(11, 5.2), squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for panel, (method, file) in zip(panels.flat, rows.items(), strict=False):
        panel.imshow(plt.imread(file), cmap="gray", interpolation="nearest")
        panel.set_title(method, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _sweep_plot(figures: Figures, path: Path) -> None:
    """KID and recall over beta, one line an alpha."""
    points: dict[float, dict[float, dict[str, Any]]] = {}
    for row, runs in figures.items():
        if row.startswith("sweep/"):
            _, beta, _, alpha = row.removeprefix("sweep/").split(" ")
            points.setdefault(float(alpha), {})[float(beta)] = _main(runs[0])
    if not points:
        return
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.2))
    for panel, key in zip(panels, ("kid", "recall"), strict=True):
        for alpha, found in sorted(points.items()):
            betas = sorted(found)
            panel.plot(betas, [found[beta][key] for beta in betas], "o-", label=f"alpha {alpha:g}")
        base = figures.get("shards/FedAvg")
        if base:
            panel.axhline(_main(base[0])[key], color="grey", ls="--", label="FedAvg, no sharing")
        panel.set_xlabel("beta = |G| / |D|")
        panel.set_ylabel(key.upper() if key == "kid" else key)
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
