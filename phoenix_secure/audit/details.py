"""Details beside the verdict: the game, figures by group, and a screen of the samples."""

from __future__ import annotations

from typing import Literal

import numpy as np

from attacks import copying as copies
from attacks import extraction
from attacks.records import Images
from attacks.statistics.auc import Auc, auc
from attacks.statistics.strata import by_group
from phoenix_secure.audit.classes import matched_by_class
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.questions import ITS_CLASS
from phoenix_secure.audit.report import CopyingReport, Figure, StratumReport
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.target import Target
from phoenix_secure.rng import SeedTree

__all__ = ["copying", "game", "strata"]

_FEWEST = 10  # members and non-members of a stratum
_OTHER_GAMES = {
    "dataset-inference": "Dataset inference has another game: the unit is a set of images. The "
    "attacker is shown a set of which all or none was trained on, holds as many images that were "
    "not, and says which it was.",
    "extraction": "Extraction has another game: the attacker is shown no image. It holds the "
    "samples and names those that repeat training images; it wins where they do.",
    "gradient-inversion": "Gradient inversion has another game: the attacker is the server. It "
    "holds the model of a round and what a site, or all together, sent back (in the single step "
    "also timestep, noise and class), and shows what it takes the images for.",
    "canaries": "Canaries have another game: each of them was trained on or not by a fair coin of "
    "its own, and the attacker guesses the coins.",
}


def game(plan: AuditPlan, *, roles: Roles) -> tuple[str, ...]:
    """The membership game in sentences."""
    e, c = plan.evaluation, plan.choice
    return (
        *_unit(plan),
        f"The attacker is shown one of {e.num_members} members and {e.num_others} non-members of "
        "the same source, each with the same chance, and says which it was.",
        f"The attacker knows {c.num_members} other members and {c.num_others} other "
        f"{'reference images' if roles.choice_source == 'reference images' else 'non-members'}, "
        "on which settings and directions were chosen; no figure rests on those.",
        *_knows_classes(plan),
        *(_OTHER_GAMES[one.name] for one in plan.attacks if one.name in _OTHER_GAMES),
        "Intervals treat images as independent. Images of one model share its training: read them "
        "as descriptions; only canaries bound epsilon.",
    )


def _unit(plan: AuditPlan) -> tuple[str, ...]:
    if plan.persons is None:
        return ("Unit: one image. A neighbour has one image more or less.",)
    p = plan.persons
    return (
        f"Unit: one person, of {p.num_members} members and {p.num_others} non-members. A neighbour "
        "has all images of one person more or less; the attacker is shown all of them.",
        "The verdict, its tests and its intervals count persons. P-values and intervals of single "
        "images take images for independent, and several of one person are not: they are wrong "
        "here, and stand for comparison only.",
    )


def _knows_classes(plan: AuditPlan) -> tuple[str, ...]:
    settings = (setting for attack in plan.attacks for setting in attack.settings)
    if not any(ITS_CLASS in setting for setting in settings):
        return ()
    return ("The attacker knows the class of each image.",)


def strata(
    one: Scored, *, target: Target, roles: Roles, plan: AuditPlan, with_sites: bool
) -> tuple[StratumReport, ...]:
    """AUC of the attack ``one`` by class; in the confidential edition also by site and by value of
    the user's column.

    Intervals hold for all rows of a kind together.
    """
    found: list[StratumReport] = []
    images = target.images
    inside, outside = images.members.labels, images.non_members.labels
    if inside is not None and outside is not None:
        names = np.array(images.members.class_names)
        numbers = np.concatenate([inside[roles.members], outside[roles.non_members]])
        found += _by_value(one, names[numbers], kind="class", order=names, roles=roles, plan=plan)
    if with_sites and images.column is not None:
        values = np.concatenate(
            [
                images.column.members[roles.members],
                images.column.non_members[roles.non_members],
            ]
        )
        order = np.unique(values)
        found += _by_value(one, values, kind="column", order=order, roles=roles, plan=plan)
    if with_sites and images.member_sites is not None:
        found += _sites(
            one,
            sites=images.member_sites[roles.members],
            roles=roles,
            plan=plan,
            labels=None
            if inside is None or outside is None
            else (inside[roles.members], outside[roles.non_members]),
        )
    return tuple(found)


def _by_value(
    one: Scored,
    values: np.ndarray,
    *,
    kind: Literal["class", "column"],
    order: np.ndarray,
    roles: Roles,
    plan: AuditPlan,
) -> list[StratumReport]:
    """A row for each of the ``values`` (N,) of evaluated images, in the order given."""
    rows = {
        str(stratum.group): stratum
        for stratum in by_group(
            one.scores,
            membership=roles.evaluation.membership,
            groups=values,
            confidence=plan.confidence,
        )
    }
    return [
        StratumReport(
            kind=kind,
            group=name,
            num_members=rows[name].num_members,
            num_non_members=rows[name].num_non_members,
            auc=_figure(rows[name].auc),
            reason=rows[name].reason,
        )
        for name in map(str, order)
        if name in rows
    ]


def _figure(area: Auc | None) -> Figure | None:
    if area is None:
        return None
    return Figure(value=area.value, low=area.interval.low, high=area.interval.high)


def _sites(
    one: Scored,
    *,
    sites: np.ndarray,
    roles: Roles,
    plan: AuditPlan,
    labels: tuple[np.ndarray, np.ndarray] | None,
) -> list[StratumReport]:
    """Members of each site against non-members, which belong to none.

    labels      of members and non-members: then those of a site's own classes, as many as it has.
                Sites hold unlike classes, and some classes are harder than others.
    """
    members = roles.evaluation.membership
    ours, all_others = one.scores[members], one.scores[~members]
    names = np.unique(sites)
    found = []
    rng = np.random.default_rng(0)  # which of like images are compared
    for name in names:
        own, others = np.flatnonzero(sites == name), np.arange(len(all_others))
        if labels is not None:
            own, others = matched_by_class(labels[0], own, labels[1], rng=rng)
        rows, theirs = ours[own], all_others[others]
        area, reason = None, None
        if min(len(rows), len(theirs)) >= _FEWEST:
            area = auc(
                np.concatenate([rows, theirs]),
                membership=np.arange(len(rows) + len(theirs)) < len(rows),
                confidence=1 - (1 - plan.confidence) / len(names),
            )
        else:
            reason = f"not estimable: needs {_FEWEST} images a side, there are {len(rows)}"
        found.append(
            StratumReport(
                kind="site",
                group=str(name),
                num_members=len(rows),
                num_non_members=len(theirs),
                auc=_figure(area),
                reason=reason,
            )
        )
    return found


def copying(
    samples: Images | None, *, target: Target, roles: Roles, seeds: SeedTree
) -> CopyingReport | None:
    """Are samples nearer to members than to as many fresh images?"""
    members = roles.evaluation.images[roles.evaluation.membership]
    others = roles.evaluation.images[~roles.evaluation.membership]
    size = min(len(members), len(others))
    if samples is None or size < 50:
        return None
    share = copies.closer_share(
        members[:size],
        holdout=others[:size],
        samples=samples,
        rng=seeds.child("closer-share").numpy(),
        num_permutations=999,
    )
    found = extraction.extract(members[:size], samples=samples)
    control = extraction.extract(others[:size], samples=samples)
    return CopyingReport(
        num_samples=len(samples),
        authenticity=copies.authenticity(members[:size], samples=samples),
        closer_share=share.share,
        closer_p=share.p_permutation,
        extracted=found.num_distinct,
        extracted_control=control.num_distinct,
        extraction_rate_high=found.rate.high,
    )
