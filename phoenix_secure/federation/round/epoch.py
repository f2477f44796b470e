"""The roster in force, as the secure rounds of one plan use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol import Roster, RosterChain

__all__ = ["RoundEpoch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundEpoch:
    """Who is in the rounds that begin now.

    number    of the roster in force
    roster    for contexts and signatures: the plan's members, bound to the roster in force
    removed   members of the plan that are in no round -> why, in words

    A removed site stays in every cohort and is absent: thresholds and the count of colluders are
    those of the plan, so that no removal makes a sum hide among fewer sites than owners approved.
    """

    number: int
    roster: Roster
    removed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def fixed(cls, roster: Roster) -> RoundEpoch:
        """Rounds whose roster does not change."""
        return cls(number=roster.epoch, roster=roster)

    @classmethod
    def of(cls, chain: RosterChain, *, planned: Roster, round_roster: Roster) -> RoundEpoch:
        """The newest of ``chain``, for a plan over the members of ``planned``.

        round_roster   ``planned`` under the federation id of the plan

        Guarantee:  parties with different rosters in force have different roster hashes, so that
                    they are never in one sum.
        """
        current = chain.current
        if current == planned:
            return cls.fixed(round_roster)
        bound = dataclasses.replace(
            round_roster, epoch=current.epoch, previous=current.hash, changes=()
        )
        absent = [site for site, _ in planned.members if current.key(site) is None]
        removed = {site: _why(chain, site) for site in absent}
        return cls(number=current.epoch, roster=bound, removed=removed)


def _why(chain: RosterChain, site: str) -> str:
    """The newest change of ``site``, in words."""
    for roster in reversed(chain.rosters):
        for change in roster.changes:
            if change.party == site:
                reason = f": {change.reason}" if change.reason else ""
                return (
                    f"{change.kind.value} by the federation's owner, epoch {roster.epoch}{reason}"
                )
    raise AssertionError("a chain states every change")
