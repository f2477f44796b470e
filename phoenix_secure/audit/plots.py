"""Pictures of an audit: ROC curves, score histograms, and samples beside their nearest members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attacks.distances import k_nearest
from attacks.epsilon.ceilings import tpr_ceiling
from attacks.epsilon.trade_off import approximate_dp
from attacks.statistics.roc import band, roc
from phoenix_secure.audit.suite import Findings
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.files import replace_file
from phoenix_secure.pictures import save_grid

__all__ = ["save_histograms", "save_nearest", "save_roc"]

_BLUE, _RED, _GREY = "#1b6ca8", "#b3541e", "#888888"
_NUM_NEAREST = 16


def save_roc(findings: Findings, path: Path) -> None:
    """ROC curves on logarithmic axes; the best attack with its 95 % band, the DP ceiling if any."""
    report = findings.report
    members = findings.roles.evaluation.membership
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    floor = 0.5 / max(report.plan.evaluation.num_members, report.plan.evaluation.num_others)
    best = min(range(len(report.attacks)), key=lambda k: report.attacks[k].p_adjusted)
    for k, one in enumerate(findings.scored):
        curve = roc(one.scores, membership=members)
        style: dict[str, Any] = (
            {"color": _RED, "lw": 2.0} if k == best else {"color": _BLUE, "lw": 0.7}
        )
        label = f"{one.name} (AUC {report.attacks[k].auc.value:.3f})" if k == best else None
        if k != best:
            style["alpha"] = 0.6
        x = np.maximum(curve.fpr, floor)
        axes.plot(x, np.maximum(curve.tpr, floor), label=label, **style)
        if k == best:
            low, high = band(curve)
            axes.fill_between(
                x, np.maximum(low, floor), np.maximum(high, floor), color=_RED, alpha=0.15, lw=0
            )
    axes.plot([], [], color=_BLUE, lw=0.7, label="other attacks")
    grid = np.logspace(np.log10(floor), 0, 200)
    axes.plot(grid, grid, "--", color=_GREY, lw=1, label="guessing")
    claim = report.plan.claim
    if claim is not None and claim.unit == "record":
        trade_off = approximate_dp(claim.epsilon, delta=claim.delta)
        ceiling = [tpr_ceiling(float(fpr), trade_off=trade_off) for fpr in grid]
        label = f"ceiling of epsilon {claim.epsilon:g}, delta {claim.delta:g}"
        axes.plot(grid, ceiling, color="black", lw=1.5, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(floor, 1),
        ylim=(floor, 1.05),
        xlabel="false-positive rate",
        ylabel="true-positive rate",
        title=report.verdict.outcome.value,
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def save_histograms(findings: Findings, path: Path) -> None:
    """Scores of members and non-members, one panel for each attack."""
    members = findings.roles.evaluation.membership
    columns = 4
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
    figure.suptitle("scores of members (brown) and non-members (blue)", fontsize=9)
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
    save_grid(from_unit_range(pairs.reshape(-1, *members.shape[1:])), path)


def _save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    replace_file(path, lambda temporary: canvas.print_png(str(temporary)))  # type: ignore[no-untyped-call]
