"""Which later rosters a plan goes on under: those that the owners of the images approved with it.

A plan names one roster. Under another one it runs only as far as ``federation.roster_changes``
says, which is part of the plan:

none     never
remove   as long as every party of the roster in force is one of the plan's, with the same key
"""

from __future__ import annotations

from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.run.plan import Plan, plan_roster
from protocol import SERVER, Roster, RosterChain

__all__ = ["planned_roster", "roster_objection", "round_epoch"]


def planned_roster(plan: Plan, chain: RosterChain) -> Roster | None:
    """The roster that ``plan`` names; None where it is none of the federation's."""
    return chain.named(bytes.fromhex(plan.roster_hash))


def roster_objection(plan: Plan, chain: RosterChain, *, site: str | None = None) -> str | None:
    """Why ``plan`` does not run under the newest of ``chain``, and what to do; None where it does.

    site   that asks for itself; None: the server
    """
    planned, current = planned_roster(plan, chain), chain.current
    if planned is None:
        return "the plan names another roster than this site pinned"
    if planned == current:
        return None
    if plan.config.federation.roster_changes == "none":
        return (
            f"{_changed(planned, chain)}, and the owners who approved the plan approved no change "
            "of the roster (federation.roster_changes=none): propose a new plan"
        )
    known = {SERVER: planned.server_key, **dict(planned.members)}
    others = [
        party
        for party, key in ((SERVER, current.server_key), *current.members)
        if known.get(party) != key
    ]
    if others:
        return (
            f"{_changed(planned, chain)}, with other keys or sites than the plan's "
            f"({', '.join(others)}); its owners approved removals alone "
            "(federation.roster_changes=remove): propose a new plan"
        )
    if site is not None and current.key(site) is None:
        return f"{site} is not in the roster any more: {_changed(planned, chain)}"
    return None


def round_epoch(plan: Plan, chain: RosterChain) -> RoundEpoch:
    """The roster in force, as the rounds of ``plan`` use it.

    Raises:     ValueError for a plan over another federation's roster.
    """
    planned = planned_roster(plan, chain)
    if planned is None:
        raise ValueError("expected a plan over one of the rosters")
    return RoundEpoch.of(chain, planned=planned, round_roster=plan_roster(planned, plan))


def _changed(planned: Roster, chain: RosterChain) -> str:
    later = [roster for roster in chain.rosters if roster.epoch > planned.epoch]
    changes = "; ".join(f"{change}" for roster in later for change in roster.changes)
    return (
        f"the plan is of roster epoch {planned.epoch}, and epoch {chain.current.epoch} is in force "
        f"({changes})"
    )
