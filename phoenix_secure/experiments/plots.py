"""Plots of a sweep, from its tidy rows alone.

Points whose guarantees differ in unit, adjacency or delta stand in different series, and the
legend says so: their epsilons are not comparable.
"""

from __future__ import annotations

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phoenix_secure.privacy.ceiling import tpr_ceiling

__all__ = ["draw_plots", "figures_of", "log_ticks", "pareto_front", "series_name"]

Row = dict[str, Any]
_COLOURS = ("#1b6ca8", "#b3541e", "#3b7d3b", "#7b4fa3", "#8a6d1d", "#a8324e", "#3a7f86", "#555555")
_MARKERS = "osD^vPX*"
_DECADES = 3  # beyond so many, ticks stand at powers of ten alone


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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high`` for a logarithmic axis; both ends where few are round.

    >>> log_ticks(0.8, 12)
    [1.0, 2.0, 5.0, 10.0]
    >>> log_ticks(0.001, 90)
    [0.001, 0.01, 0.1, 1.0, 10.0]
    >>> log_ticks(3, 4)
    [3, 4]
    """
    steps = (1.0, 2.0, 5.0) if high < low * 10**_DECADES else (1.0,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) > 1 else sorted({low, high})


def _scale_y(plot: Any, values: Sequence[float], *, label: str) -> None:
    """Logarithmic where every value is above zero, and the label says which it is."""
    if min(values) <= 0:
        plot.set_ylabel(f"{label}, linear (some values are not above 0)")
        return
    plot.set_yscale("log")
    bottom, top = plot.get_ylim()
    ticks = log_ticks(bottom, top)
    plot.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
    plot.set_yticks([], minor=True)
    plot.set_ylim(bottom, top)
    plot.set_ylabel(f"{label}, logarithmic")


def _seeds(counts: Iterable[int]) -> str:
    """How many runs stand behind each point of a curve.

    >>> _seeds([3, 3]), _seeds([1]), _seeds([3, 1])
    ('3 seeds', '1 seed', '1 to 3 seeds')
    """
    fewest, most = min(counts := list(counts)), max(counts)
    if fewest < most:
        return f"{fewest} to {most} seeds"
    return "1 seed" if most == 1 else f"{most} seeds"


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
        # The mean of equal values may differ from them in its last bit.
        below = [max(0.0, mean - min(series[x])[0]) for x, mean in zip(xs, means, strict=True)]
        tops = [max(high for *_, high in series[x]) for x in xs]
        above = [max(0.0, top - mean) for top, mean in zip(tops, means, strict=True)]
        plot.errorbar(
            [x * apart if x == edge else x for x in xs],
            means,
            yerr=[below, above],
            fmt=f"{_MARKERS[number % len(_MARKERS)]}-",
            color=_COLOURS[number % len(_COLOURS)],
            capsize=3,
            label=f"{name}, {_seeds(map(len, series.values()))}",
        )
    kinds = {(row["unit"], row["adjacency"], row["delta"]) for row in usable if row["unit"]}
    if front and len(kinds) == 1:  # others are not comparable
        pairs = pareto_front(
            (x, fmean(value for _, value, _ in values))
            for series in groups.values()
            for x, values in series.items()
            if x != edge  # no guarantee is no price
        )
        if len(pairs) > 1:  # one point alone is no front, and its line would not be seen
            plot.plot(*zip(*pairs, strict=True), ":", color="black", label="Pareto front", zorder=5)
    if extra is not None:
        extra(plot, usable)
    plot.set_xscale("log")
    ticks = log_ticks(min(finite), max(finite)) if finite else []
    names = [f"{x:.3g}" for x in ticks]
    if any(edge in series for series in groups.values()):
        if finite:
            plot.axvline(edge / 2, color="#bbbbbb", linewidth=1)
        ticks, names = [*ticks, edge], [*names, "no guarantee"]
    plot.set_xticks(ticks, names)
    plot.set_xticks([], minor=True)
    bars = "of the seeds' intervals" if interval else "of the seeds"
    plot.set_xlabel(
        "epsilon, logarithmic (unit, adjacency and delta: see the legend)\n"
        f"points: mean of the seeds; bars: lowest to highest {bars}"
    )
    if log:
        _scale_y(plot, [row[column] for row in usable], label=label)
    else:
        plot.set_ylabel(label)
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
            label=f"{name}, {_seeds(Counter(megabytes for megabytes, _ in pairs).values())}",
        )
    sizes = [megabytes for pairs in groups.values() for megabytes, _ in pairs]
    plot.set_xlabel("MB up and down, all sites and rounds; a point a seed")
    if min(sizes) > 0 and max(sizes) >= 10 * min(sizes):
        plot.set_xscale("log")
        ticks = log_ticks(min(sizes), max(sizes))
        plot.set_xticks(ticks, [f"{x:,.3g}" for x in ticks])
        plot.set_xticks([], minor=True)
        plot.set_xlabel("MB up and down, all sites and rounds, logarithmic; a point a seed")
    _scale_y(plot, [row["kid"] for row in usable], label="KID (lower is better)")
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
            label=f"{name}, {_seeds(Counter(place for place, _ in pairs).values())}",
        )
    plot.set_xticks(range(len(values)), values)
    plot.set_xlabel(f"{skew}; a point a seed")
    _scale_y(plot, [row["kid"] for row in usable], label="KID (lower is better)")
    plot.spines[["top", "right"]].set_visible(False)
    _legend_below(figure)
    return figure


def figures_of(
    rows: Sequence[Row], *, axes: Sequence[str], skew: str | None
) -> dict[str, tuple[str, Figure | None]]:
    """name -> (title, figure) of every plot; None where nothing was measured."""
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
    for name, (title, figure) in figures_of(rows, axes=axes, skew=skew).items():
        if figure is not None:
            file = io.BytesIO()
            FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
            drawn[name] = title, file.getvalue()
    return drawn
