"""What follows from an audit's findings, each with the figure that it rests on."""

from __future__ import annotations

import math

from attacks.epsilon.ceilings import auc_ceiling
from attacks.epsilon.trade_off import approximate_dp
from phoenix_secure.audit.report import AuditReport, CopiesReport, Outcome, StratumReport

__all__ = ["advice_on", "epsilon_below"]

_OVERFIT = 0.95  # members' loss below this share of the others': not chance at 100 images
_DELTA = 1e-5
_LEAST, _MOST = 0.01, 20.0


def advice_on(report: AuditReport) -> tuple[str, ...]:
    """Steps to take, the most effective first; none where nothing was found."""
    leaks = report.verdict.outcome is Outcome.LEAK
    found = _on_copies(report.copies)
    if leaks:
        found += _on_loss(report.loss_of_members, report.loss_of_non_members)
        found += _on_classes(report)
        found += _on_guarantee(report)
    copying = report.copying
    if copying is not None and copying.extracted > copying.extracted_control:
        found.append(
            f"{copying.extracted} members have a near copy among the samples, and "
            f"{copying.extracted_control} of as many unseen images: release no samples of this "
            "model"
        )
    if leaks and not report.verdict.fail:
        found.append("until then: no release of model or samples beyond those who may see the data")
    return tuple(found)


def _on_copies(copies: CopiesReport | None) -> list[str]:
    if copies is None:
        return []
    near = 0 if copies.alike_by_nature else copies.near
    if copies.exact + near == 0:
        return []
    nearly = f" and {near} nearly so" if near else ""
    return [
        f"{copies.exact} members are copies of others{nearly}: a repeated image is memorised "
        "first; leave repetitions out before training (`phoenix-secure data show` counts them)"
    ]


def _on_loss(members: float | None, others: float | None) -> list[str]:
    if members is None or others is None or members >= _OVERFIT * others:
        return []
    return [
        f"members' loss is {members:.4f}, that of unseen images {others:.4f}: the model is "
        "overfitted; take fewer passes over the images (federation.rounds, training.local_steps), "
        "more images or a smaller network"
    ]


def _on_classes(report: AuditReport) -> list[str]:
    """Classes and sites whose interval lies above that of all others together."""
    deciding = min(report.attacks, key=lambda one: one.p_adjusted).auc
    worst = [row for row in report.strata if row.auc is not None and row.auc.low > deciding.high]
    names = ", ".join(f"{row.kind} {row.group} ({_auc(row)})" for row in worst)
    return [f"more exposed than the rest: {names}; more images of them, or none"] if worst else []


def _auc(row: StratumReport) -> str:
    return "" if row.auc is None else f"AUC {row.auc.value:.2f}"


def _on_guarantee(report: AuditReport) -> list[str]:
    delta = _DELTA if report.plan.claim is None else report.plan.claim.delta
    limit = report.verdict.detectable_auc
    epsilon = epsilon_below(limit, delta=delta)
    if report.verdict.fail:
        return ["do not rely on the claimed guarantee: find out why it does not hold"]
    return [
        f"train with differential privacy (privacy.unit=record): with epsilon {epsilon:g} or less "
        f"at delta {delta:g} no attack has an AUC above {limit:.2f}, which this audit could find"
    ]


def epsilon_below(auc: float, *, delta: float) -> float:
    """The largest epsilon, in steps of 1 %, at which no attack's AUC can be above ``auc``.

    From 0.01 to 20; 0.01 where even that allows more.
    """

    def allows(epsilon: float) -> bool:
        return auc_ceiling(approximate_dp(epsilon, delta=delta)) <= auc

    low, high = math.log(_LEAST), math.log(_MOST)
    if allows(_MOST):
        return _MOST
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if allows(math.exp(middle)) else (low, middle)
    return float(f"{math.exp(low):.2g}")
