"""Bad dealings: shares that lie on no polynomial, or that their holders cannot open.

Until 0.1.0 shares were first put together after the survivors had signed. One site's shares off
the polynomial then lost the round for good, and with it the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.server.journal import SecureJournal
from protocol import Misbehaviour, Proof, is_proven
from protocol.group import write_scalar


def deal_badly(liars, liar, parties, name: str, lie: Callable) -> None:
    cheat = liar(parties, name)

    def answer(body: bytes, honest: Callable[[], bytes]) -> bytes:
        data = honest()  # moves the session on: its state then holds what a dealer knows
        return lie(liars.Dealer(cheat, cheat.session, data))

    cheat.lies_at("share", answer)


LIES = {
    "off the polynomial": lambda d: d.changed("site-02", mask_key_response=write_scalar(5)),
    "of a higher degree": lambda d: d.other_secret(None, threshold=d.state.spec.threshold + 1),
    "of another mask key": lambda d: d.other_secret("mask_key"),
    "of another self mask": lambda d: d.signed(self_mask_point=d.state.mask_pair.public),
}
UNUSABLE = {
    "unreadable": lambda d: d.unreadable("site-02"),
    "not as committed": lambda d: d.wrong_shares("site-02"),
}


@pytest.mark.parametrize("num_sites", [5, 10])
@pytest.mark.parametrize("lie", LIES)
def test_unproven_dealing_costs_its_dealer_and_no_attempt(
    secure_parties, liars, liar, tmp_path: Path, lie: str, num_sites: int
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=num_sites)
    deal_badly(liars, liar, parties, parties.names[-1], LIES[lie])
    for training_round in (1, 2):
        found = parties.sum(training_round)
        assert found.sites == parties.names[:-1]
        assert found.secure.attempts == 1
        np.testing.assert_array_equal(found.update, parties.oracle(found.sites, training_round))


@pytest.mark.parametrize("num_sites", [5, 7])
@pytest.mark.parametrize("lie", UNUSABLE)
def test_unusable_share_convicts_its_dealer_with_a_proof_that_is_kept(
    secure_parties, liars, liar, tmp_path: Path, lie: str, num_sites: int
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=num_sites)
    name = parties.names[-1]
    deal_badly(liars, liar, parties, name, UNUSABLE[lie])
    found = parties.sum(max_attempts=1)
    assert found.sites == parties.names[:-1]
    assert found.secure.failed_attempts == ("a site dealt unusable shares",)
    (excluded,) = found.secure.excluded
    assert excluded["site"] == name
    np.testing.assert_array_equal(found.update, parties.oracle(found.sites))
    proof = kept_proof(parties.path / "server" / "rounds.jsonl")
    assert proof.digest.hex() == excluded["proof"]
    assert is_proven(proof, roster=parties.roster)
    journal = SecureJournal(parties.path / "server" / "rounds.jsonl")
    assert set(journal.excluded) == {name}


def kept_proof(path: Path) -> Proof:
    """The proof in a journal, as somebody else reads it."""
    (line,) = (
        line
        for line in map(json.loads, path.read_text().splitlines())
        if line["kind"] == "excluded"
    )
    return Proof(
        culprit=line["site"],
        reason=Misbehaviour(line["reason"]),
        context=bytes.fromhex(line["context"]),
        messages=tuple(bytes.fromhex(message) for message in line["messages"]),
    )


@pytest.mark.long
def test_two_bad_dealers_of_twenty_do_not_stop_a_run(
    secure_parties, liars, liar, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=20)
    deal_badly(liars, liar, parties, "site-19", UNUSABLE["unreadable"])
    deal_badly(liars, liar, parties, "site-20", UNUSABLE["not as committed"])
    found = parties.sum(max_attempts=1)
    assert found.sites == parties.names[:18]
    np.testing.assert_array_equal(found.update, parties.oracle(found.sites))
