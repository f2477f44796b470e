"""Decides one verdict from all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attacks.statistics.power import detectable_auc, detectable_tpr
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.report import AttackReport, CanaryReport, Outcome, Verdict
from phoenix_secure.audit.units import Units

__all__ = ["SetTest", "decide"]

# Others can point either way on a moderately overfitted model (docs/attacks.md).
_ONE_DIRECTION = ("loss", "loss-quantile", "nearest", "nearest-calibrated")


@dataclass(frozen=True, kw_only=True, slots=True)
class SetTest:
    """A test of a whole set of images, which the verdict counts beside the attacks.

    p_adjusted:      over all attacks and tests of the audit; None until it is known.
    told_blindly:    the sets can be told apart without the model, so that it proves nothing.
    """

    name: str
    p_value: float
    p_adjusted: float | None
    placebo_inside: bool
    told_blindly: bool


def decide(
    attacks: Sequence[AttackReport],
    *,
    units: Units,
    canaries: CanaryReport | None,
    plan: AuditPlan,
    sets: Sequence[SetTest] = (),
    doubts: Sequence[str] = (),
) -> Verdict:
    """Decide the verdict from the figures of ``units``.

    sets        tests of whole sets, adjusted together with the attacks
    doubts      reasons why the model may have been read in a wrong way: with one, nothing found is
                inconclusive

    Guarantee:  where members and non-members are exchangeable, "leak found" has a chance of at
                most ``plan.significance`` (Holm over all attacks and both tests), and a true claim
                is contradicted with that chance at most once more. ``docs/audit.md`` has the
                simulation.
    """
    blind, many = units.blind, units.many
    first_step = plan.significance / max(1, 2 * len(attacks) + len(sets))
    smallest = detectable_auc(
        units.num_members,
        num_non_members=units.num_others,
        significance=min(0.99, 2 * first_step),  # the test is one-sided
    )
    trusted = [attack for attack in attacks if attack.placebo_inside]
    found = [attack for attack in trusted if attack.p_adjusted <= plan.significance]
    if blind.differs or blind.differs is None:
        proven = [attack for attack in found if attack.excess is not None and attack.excess.low > 0]
    else:
        proven = found
    reasons = [
        f"{attack.name}: the placebo's AUC {attack.placebo_auc:.3f} lies outside its band, "
        "its figures are not used"
        for attack in attacks
        if not attack.placebo_inside
    ]
    reasons += [
        f"{test.name}: the placebo is told apart, its figures are not used"
        for test in sets
        if not test.placebo_inside
    ]
    told = [
        test
        for test in sets
        if test.p_adjusted is not None
        and test.p_adjusted <= plan.significance
        and test.placebo_inside
        and not test.told_blindly
        and blind.differs is False
    ]
    above = [attack.name for attack in trusted if attack.above_ceiling]
    contradicted = canaries is not None and canaries.claim == "contradicted"
    if above and not blind.differs:
        reasons.append(f"the ROC of {', '.join(above)} lies above what the claimed epsilon allows")
    if contradicted:
        reasons.append("canaries: the lower bound on epsilon contradicts the claim")
    fail = contradicted or bool(above and not blind.differs)
    backwards = _backwards(attacks, found=found, plan=plan)
    reasons = [*backwards, *doubts, *reasons]
    outcome = Outcome.NONE
    if proven or told or fail:
        outcome = Outcome.LEAK
        reasons += [
            f"{attack.name} tells members from non-members (AUC {attack.auc.value:.3f}, adjusted "
            f"p {attack.p_adjusted:.2g})"
            for attack in sorted(proven, key=lambda attack: attack.p_adjusted)[:3]
        ]
        reasons += [
            f"{test.name} tells the set of members from unseen images (adjusted p "
            f"{test.p_adjusted:.2g})"
            for test in told
        ]
    elif blind.differs:
        outcome = Outcome.INCONCLUSIVE
        reasons.append(
            "members and non-members differ by themselves: a classifier tells them apart without "
            "the model; take both from one source"
        )
    elif backwards or doubts:
        outcome = Outcome.INCONCLUSIVE
    elif not trusted:
        outcome = Outcome.INCONCLUSIVE
        reasons.append("no attack passed its placebo")
    elif smallest > plan.max_detectable_auc:
        outcome = Outcome.INCONCLUSIVE
        reasons.append(
            f"with {units.num_members} members and {units.num_others} non-members "
            + (f"only an AUC above {smallest:.2f}" if smallest < 1 else "hardly any leak")
            + f" would be found: use more {many}"
        )
    elif blind.differs is None:
        outcome = Outcome.INCONCLUSIVE
        reasons.append(f"the blind baseline cannot be estimated: use more {many}")
    else:
        reasons.append(
            f"no attack found members (smallest adjusted p "
            f"{min(attack.p_adjusted for attack in trusted):.2g}); an AUC of {smallest:.3f} would "
            "have been found with a chance of 80 %"
        )
    return Verdict(
        outcome=outcome,
        fail=fail,
        reasons=tuple(reasons),
        detectable_auc=smallest,
        detectable_tpr=None
        if units.low_fpr is None
        else detectable_tpr(units.low_fpr, num_members=units.num_members, significance=first_step),
        false_alarm=f"at most {plan.significance:.0%} when there is nothing to find, over "
        f"{len(attacks)} attacks and two tests each{_and_sets(sets)} (Holm)",
    )


def _and_sets(sets: Sequence[SetTest]) -> str:
    return f", and {' and '.join(test.name for test in sets)}" if sets else ""


def _backwards(
    attacks: Sequence[AttackReport], *, found: Sequence[AttackReport], plan: AuditPlan
) -> list[str]:
    """A hint that members and non-members were exchanged, where non-members look like members.

    A model denoises what it memorised better, and its samples lie nearer to it: attacks of one
    known direction. An attack that was reversed on the tuning split and succeeds, or one that was
    not and fails so clearly that its opposite would succeed, points to exchanged sets.
    """
    turned = [one.name for one in found if one.reversed and _has_known_direction(one)]
    turned += [one.name for one in found if one.reversed and all(each.reversed for each in found)]
    # The other side of the rank test, at the same significance over all attacks.
    limit = plan.significance / max(1, len(attacks))
    turned += [
        one.name
        for one in attacks
        if one.placebo_inside and _has_known_direction(one) and 1 - one.p_rank <= limit
    ]
    if not turned:
        return []
    return [
        f"by {', '.join(dict.fromkeys(turned))} the non-members look like members, and the members "
        "do not: were --members and --non-members exchanged?"
    ]


def _has_known_direction(attack: AttackReport) -> bool:
    return attack.name.split(",")[0] in _ONE_DIRECTION
