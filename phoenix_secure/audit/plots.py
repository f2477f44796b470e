"""Pictures of an audit: ROC curves, score histograms, and samples beside their nearest members."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attacks.distances import k_nearest
from attacks.epsilon.ceilings import tpr_ceiling
from attacks.epsilon.trade_off import approximate_dp
from attacks.statistics.roc import band, roc
from phoenix_secure.audit.exposed import exposed_rows
from phoenix_secure.audit.report import AttackReport, AuditReport
from phoenix_secure.audit.suite import Findings
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.files import replace_file
from phoenix_secure.marks.marker import described_png
from phoenix_secure.marks.xmp import SourceType
from phoenix_secure.pictures import save_grid

__all__ = ["save_exposed", "save_histograms", "save_nearest", "save_roc"]

_BLUE, _RED, _GREY = "#1b6ca8", "#b3541e", "#888888"
_NEXT = ("#1b6ca8", "#2e8b57", "#7b4ea3", "#c9a227")  # the attacks after the best
_NUM_NEAREST = 16


def save_roc(findings: Findings, path: Path) -> None:
    """ROC curves on logarithmic axes: the attack of the smallest p with its 95 % band, the next
    ones by name, the DP ceiling if any; FPRs that rest on fewer than three false alarms are shaded.
    """
    report = findings.report
    members = findings.roles.evaluation.membership
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    num_others = report.plan.evaluation.num_others
    floor = 0.5 / max(report.plan.evaluation.num_members, num_others)
    order = sorted(range(len(report.attacks)), key=lambda k: report.attacks[k].p_adjusted)
    for place, k in reversed(list(enumerate(order))):  # the best last, on top of the others
        curve = roc(findings.scored[k].scores, membership=members)
        x = np.maximum(curve.fpr, floor)
        axes.plot(x, np.maximum(curve.tpr, floor), **_line(report.attacks[k], place=place))
        if place == 0:
            low, high = band(curve)
            axes.fill_between(
                x, np.maximum(low, floor), np.maximum(high, floor), color=_RED, alpha=0.15, lw=0
            )
    if len(order) > 1 + len(_NEXT):
        axes.plot([], [], color=_GREY, lw=0.6, label=f"{len(order) - 1 - len(_NEXT)} more attacks")
    grid = np.logspace(np.log10(floor), 0, 200)
    axes.plot(grid, grid, "--", color=_GREY, lw=1, label="guessing")
    claim = report.plan.claim
    if claim is not None and claim.unit == "record":
        trade_off = approximate_dp(claim.epsilon, delta=claim.delta)
        ceiling = [tpr_ceiling(float(fpr), trade_off=trade_off) for fpr in grid]
        label = f"ceiling of epsilon {claim.epsilon:g}, delta {claim.delta:g}"
        axes.plot(grid, ceiling, color="black", lw=1.5, label=label)
    axes.axvspan(floor, min(1, 3 / num_others), color=_GREY, alpha=0.12, lw=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(floor, 1),
        ylim=(floor, 1.05),
        xlabel="false-positive rate (grey: fewer than 3 false alarms, not to be relied on)",
        ylabel="true-positive rate",
    )
    sizes = f"{report.plan.evaluation.num_members} members, {num_others} non-members"
    axes.set_title(f"{report.verdict.headline}\n{sizes}; band: 95 % pointwise", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    first = [label for label in labels if label.split(" (AUC")[0] in _names(report, order)]
    listed = [*reversed(first), *(label for label in labels if label not in first)]
    axes.legend(
        [named[label] for label in listed], listed, frameon=False, loc="lower right", fontsize=8
    )
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _names(report: AuditReport, order: list[int]) -> set[str]:
    return {report.attacks[k].name for k in order[: 1 + len(_NEXT)]}


def _line(attack: AttackReport, *, place: int) -> dict[str, Any]:
    """Line style of the attack at this place of the ranking by p."""
    if place > len(_NEXT):
        return {"color": _GREY, "lw": 0.6, "alpha": 0.6}
    label = f"{attack.name} (AUC {attack.auc.value:.3f})"
    if place == 0:
        return {"color": _RED, "lw": 2.0, "label": label}
    return {"color": _NEXT[place - 1], "lw": 1.0, "label": label}


def save_histograms(findings: Findings, path: Path) -> None:
    """Scores of members and non-members, one panel for each attack."""
    members = findings.roles.evaluation.membership
    columns = min(4, len(findings.scored))
    rows = -(-len(findings.scored) // columns)
    figure = Figure(figsize=(3 * columns, 2.3 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in panels[len(findings.scored) :]:
        axes.set_visible(False)
    for axes, one in zip(panels, findings.scored, strict=False):
        low, high = np.quantile(one.scores, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, 40)
        for rows_of, colour in ((members, _RED), (~members, _BLUE)):
            axes.hist(
                np.clip(one.scores[rows_of], low, high),
                bins=edges,
                color=colour,
                alpha=0.5,
                density=True,
            )
        axes.set_title(one.name, fontsize=9)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=5)
        axes.ticklabel_format(axis="x", scilimits=(-3, 4))  # small scores' labels would overlap
        axes.xaxis.get_offset_text().set_fontsize(7)
    figure.suptitle(
        "members (brown), non-members (blue); end bars hold all beyond 0.5 %",
        fontsize=9,
    )
    _save(figure, path)


def save_nearest(findings: Findings, path: Path) -> None:
    """Pairs: a sample, and beside it the evaluated member nearest to it. Confidential only."""
    if findings.samples is None:
        raise ValueError("there are no samples")
    roles = findings.roles
    members = roles.evaluation.images[roles.evaluation.membership]
    found = k_nearest(
        findings.samples.reshape(len(findings.samples), -1), pool=members.reshape(len(members), -1)
    )
    order = np.argsort(found.distances[:, 0], kind="stable")[:_NUM_NEAREST]
    pairs = np.stack([findings.samples[order], members[found.indices[order, 0]]], axis=1)
    encode = functools.partial(described_png, source=SourceType.COMPOSITE)
    save_grid(from_unit_range(pairs.reshape(-1, *members.shape[1:])), path, encode=encode)


def save_exposed(findings: Findings, path: Path) -> None:
    """A row for each member that stands out: itself, what is near it. Confidential only."""
    rows = exposed_rows(findings.report.exposed, images=findings.images, samples=findings.samples)
    encode = functools.partial(described_png, source=SourceType.COMPOSITE)
    save_grid(rows.reshape(-1, *rows.shape[2:]), path, encode=encode, columns=rows.shape[1])


def _save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    replace_file(path, lambda temporary: canvas.print_png(str(temporary)))  # type: ignore[no-untyped-call]
