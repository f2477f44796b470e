"""A site's privacy budget: spent by its ledger, reserved by approved plans, left for others.

All of it is composed by the accountants at the policy's delta, which is tighter than the sum of
epsilons; both are shown. The policy bounds the composition over *all* data of the site. Data sets
are told apart only where their record hashes show that they share no image: a subset is not new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phoenix_secure.errors import BudgetExhausted
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.events import Event, repeated, unit_of
from phoenix_secure.privacy.ledger import Release

__all__ = [
    "ALL_DATA",
    "DataBudget",
    "Reservation",
    "data_budgets",
    "require_fit",
    "reservation_of",
]

ALL_DATA = "all data of this site"
_ADJACENCY = {
    "record": "add or remove one image",
    "group": "add or remove all images of one person",
    "site": "add or remove one whole site",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Releases that an approved plan may still make.

    data     digest of the data set that it began on; None where it has not begun
    """

    plan: str
    data: str | None
    event: Event
    releases: int

    @property
    def has_begun(self) -> bool:
        return self.data is not None

    @property
    def events(self) -> tuple[Event, ...]:
        return repeated(self.event, self.releases)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataBudget:
    """One data set's epsilons (or those of all data), each at ``delta`` under ``adjacency``.

    data              digests of data sets that share an image or may, shortened; or ``ALL_DATA``
    spent             by the ledger
    reserved, added   by approved plans, by the plan that is asked for; each by itself
    together          of everything composed
    sum_of_epsilons   of every run by itself: basic composition, at the sum of its deltas
    left              of the policy's total after all of it; None where the policy sets none
    """

    data: str
    unit: str
    adjacency: str
    delta: float
    spent: float
    reserved: float
    added: float
    together: float
    sum_of_epsilons: float
    sum_of_deltas: float
    total: float | None
    left: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for machines."""
        return asdict(self)


def data_budgets(
    releases: Sequence[Release],
    reservations: Sequence[Reservation],
    *,
    groups: Sequence[frozenset[str]],
    total: Budget | None,
    delta: float,
    added: Reservation | None = None,
) -> list[DataBudget]:
    """A row for each group of data sets and unit, and one for all data where there are several.

    groups    data digests that cannot be told apart (``data_sets.overlapping``)
    delta     of the figures, where the policy sets no total

    Under unit group all data counts together: sets that share no image may share a person. A plan
    that has not begun counts for every group: it may be of any.
    """
    delta = delta if total is None else total.delta
    asked = [*reservations, *([added] if added else [])]
    units = sorted(
        {unit_of(e) for e in [each.event for each in releases] + [r.event for r in asked]}
    )
    named: list[tuple[str, frozenset[str] | None]] = [
        (", ".join(sorted(digest[:16] for digest in group)), group) for group in groups
    ]
    if len(named) != 1:
        named.append((ALL_DATA, None))
    rows = []
    for unit in units:
        for name, group in named if unit != "group" else [(ALL_DATA, None)]:
            of_group = [
                each
                for each in releases
                if unit_of(each.event) == unit and (group is None or each.data in group)
            ]
            waiting = [
                each
                for each in asked
                if unit_of(each.event) == unit
                and (group is None or each.data is None or each.data in group)
            ]
            if of_group or waiting:
                rows.append(
                    _row(name, unit, of_group, waiting, total=total, delta=delta, added=added)
                )
    return rows


def require_fit(
    releases: Sequence[Release],
    reservations: Sequence[Reservation],
    added: Reservation,
    *,
    total: Budget | None,
) -> None:
    """Refuse a plan whose releases do not fit beside what is spent and reserved.

    Raises:     BudgetExhausted with the figures.
    """
    if total is None:
        return
    events = [each.event for each in releases]
    events += [event for each in (*reservations, added) for event in each.events]
    if len({unit_of(event) for event in events}) > 1:
        raise BudgetExhausted(
            "the site holds releases or approved plans under another unit, and epsilons of images, "
            "of persons and of whole sites do not add up: the plan is refused"
        )
    together = epsilon_of(events, delta=total.delta).value
    if together > total.epsilon:
        spent = epsilon_of([each.event for each in releases], delta=total.delta).value
        reserved = [event for each in reservations for event in each.events]
        raise BudgetExhausted(
            f"the plan would bring all runs on this site to epsilon {together:.4g} at delta "
            f"{total.delta:g}, above the site's {total.epsilon:g} (spent {spent:.4g}, reserved by "
            f"approved plans {epsilon_of(reserved, delta=total.delta).value:.4g}): refuse it, "
            "withdraw another approval, or raise policy.max_total_epsilon"
        )


def _row(
    name: str,
    unit: str,
    releases: Sequence[Release],
    waiting: Sequence[Reservation],
    *,
    total: Budget | None,
    delta: float,
    added: Reservation | None,
) -> DataBudget:
    def epsilon(events: Sequence[Event]) -> float:
        return epsilon_of(events, delta=delta).value

    spent = [each.event for each in releases]
    reserved = [event for each in waiting if each is not added for event in each.events]
    extra = [event for each in waiting if each is added for event in each.events]
    by_run: dict[str, list[Event]] = {}
    for release in releases:
        by_run.setdefault(release.plan, []).append(release.event)
    for reservation in waiting:
        by_run.setdefault(reservation.plan, []).extend(reservation.events)
    together = epsilon([*spent, *reserved, *extra])
    return DataBudget(
        data=name,
        unit=unit,
        adjacency=_ADJACENCY[unit],
        delta=delta,
        spent=epsilon(spent),
        reserved=epsilon(reserved),
        added=epsilon(extra),
        together=together,
        sum_of_epsilons=math.fsum(epsilon(events) for events in by_run.values()),
        sum_of_deltas=delta * len(by_run),
        total=None if total is None else total.epsilon,
        left=None if total is None else max(0.0, total.epsilon - together),
    )


def reservation_of(
    plan: str, *, event: Event, max_releases: int, releases: Sequence[Release]
) -> Reservation:
    """The reservation of a plan's remaining releases, by the ledger."""
    own = [each for each in releases if each.plan == plan]
    return Reservation(
        plan=plan,
        data=own[0].data if own else None,
        event=event,
        releases=max(0, max_releases - len(own)),
    )
