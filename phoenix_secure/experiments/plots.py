"""Plots of a sweep, from its tidy rows alone.

Points whose guarantees differ in unit, adjacency or delta stand in different series, and the
legend says so: their epsilons are not comparable.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from phoenix_secure.privacy.ceiling import tpr_ceiling

__all__ = ["draw_plots", "pareto_front", "series_name"]

Row = dict[str, Any]
_COLOURS = ("#1b6ca8", "#b3541e", "#3b7d3b", "#7b4fa3", "#8a6d1d", "#a8324e", "#3a7f86", "#555555")
_MARKERS = "osD^vPX*"


def series_name(row: Row, *, axes: Sequence[str]) -> str:
    """The name of a row's curve: its labels but epsilon and seed, and its guarantee."""
    labels = [row[f"label.{axis}"] for axis in axes if row.get(f"label.{axis}") is not None]
    name = ", ".join(labels)
    if row["epsilon"] is None:
        return f"{name} (no guarantee)".strip()
    return f"{name} ({row['unit']}, {row['adjacency']}, δ={row['delta']:g})".strip()


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, loss) pairs that no other pair beats in both, by rising cost.

    >>> pareto_front([(1, 5), (2, 3), (3, 4), (3, 3)])
    [(1, 5), (2, 3)]
    """
    front: list[tuple[float, float]] = []
    for cost, loss in sorted(points):
        if not front or loss < front[-1][1]:
            front.append((cost, loss))
    return front


def _against_epsilon(
    rows: Sequence[Row],
    *,
    axes: Sequence[str],
    column: str,
    label: str,
    log: bool = False,
    front: bool = False,
    interval: tuple[str, str] | None = None,
    extra: Callable[[Any, Sequence[Row]], None] | None = None,
) -> Figure | None:
    """Mean and range over seeds of ``column``; runs without a guarantee stand at the right edge.

    ``interval`` names two columns with each value's own interval: whiskers then reach from the
    lowest to the highest of them.
    """
    usable = [row for row in rows if row["status"] == "done" and row[column] is not None]
    if not usable:
        return None
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    plot = figure.subplots()
    finite = [row["epsilon"] for row in usable if row["epsilon"] is not None]
    edge = 4 * max(finite, default=1.0)
    groups: dict[str, dict[float, list[tuple[float, float, float]]]]
    groups = defaultdict(lambda: defaultdict(list))
    for row in usable:
        x = edge if row["epsilon"] is None else row["epsilon"]
        ends = [row.get(name) for name in interval or ()] or [None, None]
        low, high = (row[column] if end is None else end for end in ends)
        groups[series_name(row, axes=axes)][x].append((low, row[column], high))
    for number, (name, series) in enumerate(sorted(groups.items())):
        # Side by side at the right edge, where curves without a guarantee would hide one another.
        apart = 1.12 ** (number - (len(groups) - 1) / 2)
        xs = sorted(series)
        means = [fmean(value for _, value, _ in series[x]) for x in xs]
        below = [mean - min(series[x])[0] for x, mean in zip(xs, means, strict=True)]
        above = [max(high for *_, high in series[x]) - m for x, m in zip(xs, means, strict=True)]
        plot.errorbar(
            [x * apart if x == edge else x for x in xs],
            means,
            yerr=[below, above],
            fmt=f"{_MARKERS[number % len(_MARKERS)]}-",
            color=_COLOURS[number % len(_COLOURS)],
            capsize=3,
            label=f"{name}, {max(map(len, series.values()))} seeds",
        )
    kinds = {(row["unit"], row["adjacency"], row["delta"]) for row in usable if row["unit"]}
    if front and len(set(finite)) > 1 and len(kinds) == 1:  # others are not comparable
        pairs = pareto_front(
            (x, fmean(value for _, value, _ in values))
            for series in groups.values()
            for x, values in series.items()
        )
        plot.plot(*zip(*pairs, strict=True), ":", color="black", label="Pareto front")
    if extra is not None:
        extra(plot, usable)
    plot.set_xscale("log")
    if log and min(row[column] for row in usable) > 0:
        plot.set_yscale("log")
        plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.yaxis.set_major_formatter(ScalarFormatter())
        plot.yaxis.set_minor_formatter(NullFormatter())
    if any(edge in series for series in groups.values()):
        if finite:
            plot.axvline(edge / 2, color="#bbbbbb", linewidth=1)
        ticks = [*sorted(set(finite)), edge]
        plot.set_xticks(ticks, [f"{x:.3g}" for x in ticks[:-1]] + ["no guarantee"])
        plot.minorticks_off()
    plot.set(
        xlabel="epsilon, logarithmic (unit, adjacency and delta: see the legend)", ylabel=label
    )
    plot.spines[["top", "right"]].set_visible(False)
    _legend_below(figure)
    return figure


def _legend_below(figure: Figure) -> None:
    """Outside of the axes: four curves with their guarantees would cover what they explain."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False, fontsize=8)


def _ceiling(plot: Any, rows: Sequence[Row]) -> None:
    """Plot the guarantee's ceiling on an attacker at 1 % false positives."""
    guaranteed = sorted(
        {(row["epsilon"], row["delta"]) for row in rows if row["epsilon"] is not None}
    )
    if guaranteed:
        allowed = [tpr_ceiling(0.01, epsilon=epsilon, delta=delta) for epsilon, delta in guaranteed]
        plot.plot([e for e, _ in guaranteed], allowed, "k_--", label="ceiling of the guarantee")
    plot.axhline(0.01, color="#999999", linestyle=":", label="guessing")


def _chance(plot: Any, rows: Sequence[Row]) -> None:
    plot.axhline(0.5, color="#999999", linestyle=":", label="guessing")


def _real_accuracy(plot: Any, rows: Sequence[Row]) -> None:
    real = [row["accuracy_real"] for row in rows if row["accuracy_real"] is not None]
    if real:
        plot.axhline(fmean(real), color="#999999", linestyle=":", label="trained on real images")


def _bytes(rows: Sequence[Row], *, axes: Sequence[str]) -> Figure | None:
    usable = [row for row in rows if row["status"] == "done" and row["kid"] is not None]
    if not usable:
        return None
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    plot = figure.subplots()
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in usable:
        megabytes = (row["bytes_up"] + row["bytes_down"]) / 1e6
        groups[series_name(row, axes=axes)].append((megabytes, row["kid"]))
    for number, (name, pairs) in enumerate(sorted(groups.items())):
        plot.plot(
            *zip(*pairs, strict=True),
            _MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            label=name,
        )
    plot.set(xlabel="MB up and down, all sites and rounds", ylabel="KID (lower is better)")
    plot.spines[["top", "right"]].set_visible(False)
    _legend_below(figure)
    return figure


def _by_partition(rows: Sequence[Row], *, axes: Sequence[str], skew: str | None) -> Figure | None:
    """KID for each value of the axis that deals the images, in the axis' own order."""
    usable = [row for row in rows if row["status"] == "done" and row["kid"] is not None]
    if skew is None or not usable:
        return None
    values = list(dict.fromkeys(row[f"label.{skew}"] for row in usable))
    others = [axis for axis in axes if axis != skew]
    groups: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in usable:
        name = series_name(row, axes=others)
        if row["epsilon"] is not None:
            name = f"epsilon {row['epsilon']:.3g}, {name}"
        groups[name].append((values.index(row[f"label.{skew}"]), row["kid"]))
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    plot = figure.subplots()
    for number, (name, pairs) in enumerate(sorted(groups.items())):
        plot.plot(
            *zip(*sorted(pairs), strict=True),
            _MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            label=name,
        )
    plot.set_xticks(range(len(values)), values)
    plot.set(xlabel=skew, ylabel="KID (lower is better)")
    plot.spines[["top", "right"]].set_visible(False)
    _legend_below(figure)
    return figure


def _plots(
    rows: Sequence[Row], axes: Sequence[str], skew: str | None
) -> dict[str, tuple[str, Figure | None]]:
    return {
        "kid": (
            "Quality: KID against epsilon",
            _against_epsilon(
                rows, axes=axes, column="kid", label="KID (lower is better)", log=True, front=True
            ),
        ),
        "accuracy": (
            "Use: accuracy on real images of a classifier trained on synthetic ones",
            _against_epsilon(
                rows,
                axes=axes,
                column="accuracy_synthetic",
                label="accuracy (higher is better)",
                extra=_real_accuracy,
            ),
        ),
        "auc": (
            "Risk: AUC of the strongest attack",
            _against_epsilon(
                rows,
                axes=axes,
                column="audit_auc",
                label="attack AUC",
                interval=("audit_auc_low", "audit_auc_high"),
                extra=_chance,
            ),
        ),
        "tpr": (
            "Risk: true positives at 1 % false positives, beside what the guarantee allows",
            _against_epsilon(
                rows,
                axes=axes,
                column="audit_tpr_1",
                label="TPR at 1 % FPR",
                log=True,
                interval=("audit_tpr_1_low", "audit_tpr_1_high"),
                extra=_ceiling,
            ),
        ),
        "heterogeneity": (
            "Heterogeneity: KID by how the images are dealt",
            _by_partition(rows, axes=axes, skew=skew),
        ),
        "bytes": ("Traffic: KID against bytes", _bytes(rows, axes=axes)),
    }


def draw_plots(
    rows: Sequence[Row], *, axes: Sequence[str], skew: str | None
) -> dict[str, tuple[str, bytes]]:
    """name -> (title, PNG) of every plot for which something was measured.

    axes   those that tell curves apart: neither the seed nor the amount of privacy
    skew   the axis that deals the images, if there is one
    """
    drawn = {}
    for name, (title, figure) in _plots(rows, axes, skew).items():
        if figure is not None:
            file = io.BytesIO()
            FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
            drawn[name] = title, file.getvalue()
    return drawn
