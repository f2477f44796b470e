"""Checks of the rosters that a run went through: a chain that its owner signed, and no other."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.compliance.run_files import ROSTERS, RunFiles
from phoenix_secure.compliance.verification.checks import Checks
from phoenix_secure.evidence import Entry, Event, EvidenceError
from phoenix_secure.evidence.ledger import LedgerFile
from protocol import RemoteProtocolError, Roster, RosterChain, Succession

__all__ = ["check_rosters", "known_rosters", "roster_at"]


def known_rosters(run: Path, pinned: RosterChain) -> RosterChain:
    """The longer of the reader's rosters and those in the run's evidence.

    Raises:     EvidenceError where the pinned owner did not sign those in the evidence, or they are
                another history than the reader's.
    """
    files = RunFiles(run)
    if not files.has(ROSTERS):
        return pinned
    try:
        found = RosterChain.load(files.content(ROSTERS), owner_key=pinned.first.owner_key)
    except RemoteProtocolError as error:
        raise EvidenceError(
            f"{run / ROSTERS} is not signed by the pinned owner: {error}"
        ) from error
    match pinned.compare(found):
        case Succession.FORKED:
            raise EvidenceError(
                f"{run / ROSTERS} is another history than that of the pinned roster"
            )
        case Succession.OLDER:
            return pinned
    return found


def check_rosters(ledger: LedgerFile, rosters: RosterChain, checks: Checks) -> None:
    """The ledger names rosters that follow one another, and their changes as they are signed."""
    entries = ledger.of(Event.ROSTER)
    named = [rosters.named(_hash(entry)) for entry in entries]
    found = [roster for roster in named if roster is not None]
    epochs = [roster.epoch for roster in found]
    scope = ledger.head.scope
    if not checks.require(
        "federation of the ledger",
        (scope is None or scope.federation == rosters.first.federation_id)
        and bool(found)
        and len(found) == len(named)
        and epochs == list(range(epochs[0], epochs[0] + len(epochs))),
        "the ledger names another federation or roster than the pinned one",
    ):
        return
    if len(entries) == 1:
        return
    told = [entry.facts.get("changes") for entry in entries[1:]]
    checks.require(
        f"roster epochs {epochs[0]} to {epochs[-1]}",
        told == [_changes(roster) for roster in found[1:]],
        "the ledger states other changes than the owner signed",
    )


def roster_at(ledger: LedgerFile, rosters: RosterChain, index: int) -> Roster | None:
    """The roster in force when the ledger had ``index`` entries."""
    before = [entry for entry in ledger.of(Event.ROSTER) if entry.index < index]
    return rosters.named(_hash(before[-1])) if before else None


def _hash(entry: Entry) -> bytes:
    return bytes.fromhex(str(entry.facts.get("sha256")))


def _changes(roster: Roster) -> list[dict[str, str]]:
    return [
        {"party": each.party, "kind": each.kind.value, "reason": each.reason}
        for each in roster.changes
    ]
