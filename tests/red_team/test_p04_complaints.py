"""False complaints: one dishonest site accuses honest ones, to stop a run or to censor somebody.

Until 0.1.0 a complaint named accuser and accused, and whoever was named most was left out: one
liar could stop a run of five, and choose whom a run of ten went on without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def accuse(liars, liar, parties, name: str, victim: Callable[[list[str]], str]) -> None:
    """``name`` answers each ``mask`` with a complaint about what an honest site dealt it."""
    cheat = liar(parties, name)

    def lie(body: bytes, honest: Callable[[], bytes]) -> bytes:
        others = [id for id in cheat.session._state.members if id != name]
        complaint, _ = liars.false_complaint(cheat, cheat.session, body, victim(others))
        return liars.complaint_message(cheat, complaint, name, honest())

    cheat.lies_at("mask", lie)


@pytest.mark.parametrize("num_sites", [5, 6, 7, 10])
def test_false_complaint_costs_its_author_alone(
    secure_parties, liars, liar, tmp_path: Path, num_sites: int
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=num_sites)
    name = parties.names[-1]
    accuse(liars, liar, parties, name, lambda others: others[0])
    for training_round in (1, 2):
        found = parties.sum(training_round)
        assert found.sites == parties.names[:-1]
        assert found.secure.attempts == 1
        assert found.failures == {name: "excluded: false complaint about a dealer"}
        np.testing.assert_array_equal(found.update, parties.oracle(found.sites, training_round))
    # Excluded for good: in the second round it was not even asked.
    assert [site for stage, site, _ in parties.engine.sent if stage == "announce"].count(name) == 1


def test_liar_of_seven_does_not_choose_whom_to_exclude(
    secure_parties, liars, liar, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=7)
    accuse(liars, liar, parties, "site-07", lambda others: "site-04")
    for training_round in (1, 2, 3):
        assert "site-04" in parties.sum(training_round).sites


def test_two_liars_of_twenty_do_not_stop_a_run(secure_parties, liars, liar, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=20)
    accuse(liars, liar, parties, "site-19", lambda others: others[0])
    accuse(liars, liar, parties, "site-20", lambda others: others[1])
    for training_round in (1, 2):
        found = parties.sum(training_round)
        assert found.sites == parties.names[:18]
        np.testing.assert_array_equal(found.update, parties.oracle(found.sites, training_round))
    assert [each["site"] for each in found.secure.excluded] == ["site-19", "site-20"]
