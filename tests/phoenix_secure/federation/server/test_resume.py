"""A server that dies anywhere in a secure round: its successor gets the very same sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.federation.server.attempt import STAGES
from phoenix_secure.federation.server.journal import SecureJournal


@pytest.mark.parametrize("sites_die_too", [False, True])
@pytest.mark.parametrize("when", ["crash", "crash-after"])
@pytest.mark.parametrize("stage", STAGES)
def test_successor_gets_the_same_sum(
    secure_parties, tmp_path: Path, stage: str, when: str, sites_die_too: bool
) -> None:
    parties = secure_parties.Parties(tmp_path)
    parties.engine.fault = lambda now, site, n: when if now == stage else None
    with pytest.raises(secure_parties.ServerKilled):
        parties.sum()
    parties.engine.fault = lambda *a: None
    if sites_die_too:
        for site in parties.sites.values():
            site.restart()
    found = parties.sum()
    assert found.sites == parties.names
    assert found.secure.attempts == 1
    assert found.secure.protocol_round == 2
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names))


def test_run_with_a_kill_in_every_stage_ends_as_one_without(secure_parties, tmp_path: Path) -> None:
    def run(path: Path, *, killed: bool) -> np.ndarray:
        parties = secure_parties.Parties(path)
        x = parties.zeros()
        for training_round, stage in enumerate(STAGES, start=1):
            if killed:
                parties.engine.fault = lambda now, site, n, s=stage: "crash" if now == s else None
                with pytest.raises(secure_parties.ServerKilled):
                    parties.sum(training_round, parameters=x)
                parties.engine.fault = lambda *a: None
            found = parties.sum(training_round, parameters=x)
            x = (x + found.update).astype(np.float32)
        return x

    np.testing.assert_array_equal(
        run(tmp_path / "a", killed=False), run(tmp_path / "b", killed=True)
    )


def test_round_whose_result_was_lost_keeps_its_survivors(secure_parties, tmp_path: Path) -> None:
    """A site that was out when the others signed stays out, although it is back."""
    parties = secure_parties.Parties(tmp_path)

    def fault(stage: str, site: str, exchange: int) -> str | None:
        if site == "site-04" and stage == "mask":
            return "before"
        return "crash-after" if stage == "check" else None

    parties.engine.fault = fault
    with pytest.raises(secure_parties.ServerKilled):
        parties.sum()
    parties.engine.fault = lambda *a: None
    found = parties.sum()
    others = tuple(name for name in parties.names if name != "site-04")
    assert found.sites == others
    np.testing.assert_array_equal(found.update, parties.oracle(others))


def test_earlier_round_is_repeated_from_an_older_checkpoint(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path)
    first = parties.sum(1)
    x = (parties.zeros() + first.update).astype(np.float32)
    second = parties.sum(2, parameters=x)
    again = parties.sum(1)
    np.testing.assert_array_equal(again.update, first.update)
    np.testing.assert_array_equal(parties.sum(2, parameters=x).update, second.update)


def test_past_round_on_another_model_is_refused_by_every_site(
    secure_parties, tmp_path: Path
) -> None:
    """A server that asks for a signed round on a model one bit away wants two sums to subtract."""
    parties = secure_parties.Parties(tmp_path)
    parties.sum(1)
    nearly = parties.zeros()
    nearly[0] = np.nextafter(np.float32(0), np.float32(1))
    with pytest.raises(TrainingError, match="site-01: refused"):
        parties.sum(1, parameters=nearly)
    assert all(site.trainings == [1] for site in parties.sites.values())


def test_no_protocol_round_is_ever_used_twice(secure_parties, tmp_path: Path) -> None:
    path = tmp_path / "server" / "rounds.jsonl"
    journal = SecureJournal.create(path)
    assert [journal.reserve(1), SecureJournal(path).reserve(1)] == [1, 2]
    with path.open("a") as file:
        file.write('{"kind":"reserved","rou')  # cut short by a power failure
    assert SecureJournal(path).reserve(2) == 3
    assert SecureJournal(path).reserve(2) == 4


def test_first_survivors_count_and_transcripts_chain(tmp_path: Path) -> None:
    path = tmp_path / "server" / "rounds.jsonl"
    journal = SecureJournal.create(path)
    assert journal.previous == bytes(32)
    journal.reserve(1)
    journal.record_survivors(1, survivors=("a", "b"))
    journal.record_survivors(1, survivors=("a",))
    journal.record_result(1, transcript=b"t" * 32)
    again = SecureJournal(path)
    assert again.survivors(1) == ("a", "b")
    assert again.survivors(2) is None
    assert again.previous == b"t" * 32


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[1]\n", b'{"kind":"other"}\n', b'{"kind":"reserved"}\n', b"\xff\n"]
)
def test_damaged_journal_is_named_with_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "server" / "rounds.jsonl"
    SecureJournal.create(path).reserve(1)
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(CheckpointError, match=r"rounds\.jsonl is damaged in line 2"):
        SecureJournal(path)


def test_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"rounds\.jsonl is missing"):
        SecureJournal(tmp_path / "rounds.jsonl")
