"""A server passes signatures that sites gave under one plan off as witness to another's history.

Until 0.1.0 a tree head was a ledger's id, a size and a root. The server chose the id, so that it
could write a second history under the first one's name and plan, and have the sites sign it while
they served another plan.
"""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import pytest

from phoenix_secure.compliance.verification.checks import Checks, State
from phoenix_secure.compliance.verification.evidence import (
    _check_kept_heads,
    _check_scope,
    _check_witnesses,
)
from phoenix_secure.compliance.verification.rosters import check_rosters
from phoenix_secure.evidence import (
    Event,
    EvidenceError,
    Ledger,
    Scope,
    TreeHead,
    read_ledger,
)
from phoenix_secure.evidence.witness import Forked, ShownHead, Witness, WitnessReply
from protocol import SERVER, Identity, Roster, RosterChain

PLAN_A, PLAN_B = "aa" * 32, "bb" * 32
NAMES = tuple(f"site-{number}" for number in range(1, 6))


class Federation:
    """Five sites, each with one witness a plan, and a server that holds its real key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = Identity.generate(SERVER)
        self.sites = {name: Identity.generate(name) for name in NAMES}
        owner = Identity.generate("owner")
        self.roster = Roster.create(
            federation_id="f",
            owner_key=owner.public_key,
            server_key=self.server.public_key,
            keys={name: each.public_key for name, each in self.sites.items()},
        )
        self.rosters = RosterChain.of([self.roster.sign(owner)], owner_key=owner.public_key)

    def witness(self, name: str, *, plan: str, federation: str = "f") -> Witness:
        folder = self.path / f"{federation}-{plan[:2]}" / "sites" / name
        folder.mkdir(parents=True, exist_ok=True)
        return Witness(
            folder / "heads.jsonl",
            identity=self.sites[name],
            server_key=self.server.public_key,
            federation=federation,
            plan=plan,
        )

    def history(self, name: str, *, scope: Scope, plan: str, survivors: int = 5) -> Ledger:
        """A run's ledger; its heads say ``scope``, its entries ``plan``."""
        ledger = Ledger.create(self.path / name, identity=self.server, scope=scope)
        ledger.append(Event.ROSTER, sha256=self.roster.hash.hex())
        ledger.append(Event.PLAN, sha256=plan)
        ledger.append(Event.ROUND_STARTED, round=1, cohort=list(NAMES))
        ledger.append(Event.AGGREGATED, round=1, survivors=survivors, sites=list(NAMES))
        return ledger

    def ask(self, head: TreeHead, *, under: str) -> dict[str, str]:
        """The signatures under ``head`` of the sites that now serve the plan ``under``."""
        shown = ShownHead(head=head, signature=head.sign(self.server), old_size=0, proof=())
        signed = {}
        for name in NAMES:
            reply = WitnessReply.from_bytes(self.witness(name, plan=under).handle(shown.to_bytes()))
            if reply.signature is not None:
                signed[name] = base64.b64encode(reply.signature).decode()
        return signed

    def verify(self, ledger: Ledger, *, kept: str = "none") -> dict[str, State]:
        """The checks of a reader who pinned the roster, and got the folder ``kept``."""
        checks = Checks()
        found = read_ledger(ledger.path, server_key=self.server.public_key)
        _check_scope(found, checks)
        check_rosters(found, self.rosters, checks)
        _check_witnesses(found, self.rosters, checks)
        _check_kept_heads(
            self.path / kept, found, self.rosters, key=self.server.public_key, checks=checks
        )
        return {each.name: each.state for each in checks.found}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def test_the_honest_history_is_witnessed_and_verifies(federation: Federation) -> None:
    scope = Scope.new(federation="f", plan=PLAN_A)
    ledger = federation.history("a", scope=scope, plan=PLAN_A)
    signatures = federation.ask(ledger.head, under=PLAN_A)
    ledger.append(Event.WITNESSED, head=ledger.head.to_dict(), signatures=signatures, missing={})
    assert set(signatures) == set(NAMES)
    assert set(federation.verify(ledger, kept="f-aa").values()) == {State.HOLDS}


def test_no_site_signs_a_history_of_another_plan_or_federation(federation: Federation) -> None:
    scope = Scope.new(federation="f", plan=PLAN_A)
    ledger = federation.history("a", scope=scope, plan=PLAN_A)
    with pytest.raises(Forked, match="of plan aaaaaaaaaaaaaaaa of f, asked under plan bbbb"):
        federation.ask(ledger.head, under=PLAN_B)
    other = Scope.new(federation="g", plan=PLAN_B)
    with pytest.raises(Forked, match="of g"):
        federation.ask(federation.history("g", scope=other, plan=PLAN_B).head, under=PLAN_B)


def test_a_head_of_the_old_form_names_no_plan_and_is_not_signed(federation: Federation) -> None:
    ledger = federation.history("a", scope=Scope.new(federation="f", plan=PLAN_A), plan=PLAN_A)
    old = TreeHead(ledger=ledger.id, size=ledger.head.size, root=ledger.head.root)
    with pytest.raises(Forked, match="names no plan"):
        federation.ask(old, under=PLAN_B)
    federation.ask(
        federation.history("b", scope=Scope.new(federation="f", plan=PLAN_B), plan=PLAN_B).head,
        under=PLAN_B,
    )
    with pytest.raises(Forked, match="names no plan"):
        federation.ask(old, under=PLAN_B)


def test_signatures_under_another_plan_do_not_witness_a_history(federation: Federation) -> None:
    """The server gets plan B's sites to sign a root, and puts it under plan A's name."""
    real = Scope.new(federation="f", plan=PLAN_A)
    forged = federation.history("a", scope=real, plan=PLAN_A)
    bait = Scope(federation="f", plan=PLAN_B, nonce=real.nonce)
    asked = dataclasses.replace(forged.head, ledger=bait.ledger, scope=bait)
    signatures = federation.ask(asked, under=PLAN_B)
    assert set(signatures) == set(NAMES)  # they sign what their plan is said to have done
    for name, head in (("as signed", asked), ("as needed", forged.head)):
        forged.append(Event.WITNESSED, head=head.to_dict(), signatures=signatures, missing={})
        assert federation.verify(forged)["witnesses"] is State.FAILED, name


def test_heads_kept_under_another_plan_do_not_witness_a_history(federation: Federation) -> None:
    real = Scope.new(federation="f", plan=PLAN_A)
    forged = federation.history("a", scope=real, plan=PLAN_A)
    bait = Scope(federation="f", plan=PLAN_B, nonce=real.nonce)
    federation.ask(dataclasses.replace(forged.head, ledger=bait.ledger, scope=bait), under=PLAN_B)
    found = federation.verify(forged, kept="f-bb")
    assert {found[f"heads kept by {name}"] for name in NAMES} == {State.FAILED}


def test_entries_cannot_tell_of_another_plan_than_the_heads(federation: Federation) -> None:
    scope = Scope.new(federation="f", plan=PLAN_B)
    with pytest.raises(EvidenceError, match="another plan"):
        read_ledger(federation.history("b", scope=scope, plan=PLAN_A).path)
    # Nor may the plan be left out, so that the settings of another run count.
    ledger = Ledger.create(federation.path / "c", identity=federation.server, scope=scope)
    ledger.append(Event.CONFIG, sha256=PLAN_A)
    ledger.append(Event.ROSTER, sha256=federation.roster.hash.hex())
    assert federation.verify(ledger)["plan of the ledger"] is State.FAILED


def test_a_ledger_of_another_federation_does_not_pass_for_the_pinned_one(
    federation: Federation,
) -> None:
    scope = Scope.new(federation="g", plan=PLAN_A)
    ledger = federation.history("a", scope=scope, plan=PLAN_A)
    assert federation.verify(ledger)["federation of the ledger"] is State.FAILED


def test_an_id_cannot_be_taken_to_another_plan(federation: Federation) -> None:
    first = Scope.new(federation="f", plan=PLAN_A)
    second = Scope(federation="f", plan=PLAN_B, nonce=first.nonce)
    with pytest.raises(ValueError, match="follow from"):
        TreeHead(ledger=first.ledger, size=1, root="00" * 32, scope=second)
    assert first.ledger != second.ledger


def test_one_plan_has_one_history_at_a_site(federation: Federation) -> None:
    for name in ("first", "second"):
        scope = Scope.new(federation="f", plan=PLAN_A)
        ledger = federation.history(name, scope=scope, plan=PLAN_A)
        if name == "first":
            assert len(federation.ask(ledger.head, under=PLAN_A)) == 5
            continue
        with pytest.raises(Forked, match="shows the ledger"):
            federation.ask(ledger.head, under=PLAN_A)
