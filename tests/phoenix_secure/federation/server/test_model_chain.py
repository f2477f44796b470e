"""Rounds whose model every site computes: sites that are away, servers and sites that restart."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.federation.round.confirmation import ModelClaim
from phoenix_secure.federation.secagg.offers import BroadcastSum
from phoenix_secure.federation.server.journal import SecureJournal

SUM = "secure_aggregation.broadcast=sum"


@pytest.fixture
def parties(secure_parties, tmp_path: Path):
    return secure_parties.Parties(tmp_path, SUM, "federation.server_optimizer=fedadam")


def away(*sites: str):
    return lambda stage, site, exchange: "before" if site in sites else None


def newest(parties, site: str):
    return parties.sites[site].secure._model.newest


def all_know(parties, *sites: str) -> bool:
    return {newest(parties, site).digest for site in sites or parties.names} == {
        parties.state.digest
    }


def sent(parties, stage: str, site: str) -> list[int]:
    """Bytes of each request of ``stage`` to ``site``."""
    return [len(body) for at, to, body in parties.engine.sent if (at, to) == (stage, site)]


def test_sites_compute_the_servers_model_and_are_sent_none(parties) -> None:
    server = parties.aggregator()
    for _ in range(3):
        found = parties.next_round(server)
        assert found.state is parties.state
        assert all_know(parties)
    certificate = server._chain._sums.load(3).certificate
    assert [site for site, _ in certificate.signatures] == list(parties.names)
    assert len({*sent(parties, "announce", "site-01")}) == 1  # it does not grow with anything


def test_model_is_that_of_a_server_that_sends_it(secure_parties, parties, tmp_path: Path) -> None:
    """The weights of today, bit for bit."""
    other = secure_parties.Parties(
        tmp_path / "other",
        "secure_aggregation.broadcast=model",
        "federation.server_optimizer=fedavg",
    )
    computed = secure_parties.Parties(tmp_path / "computed", SUM)
    x = other.zeros()
    for number in (1, 2):
        sum_of_sent = other.sum(number, parameters=x)
        x = (x.astype(np.float64) + sum_of_sent.update).astype(np.float32)
        computed.next_round()
        np.testing.assert_array_equal(computed.state.parameters, x)


def test_away_for_one_round_costs_one_sum_for_many_the_state(parties, caplog) -> None:
    caplog.set_level(logging.INFO)
    server = parties.aggregator()
    parties.next_round(server)
    parties.engine.fault = away("site-03")
    parties.next_round(server)
    parties.engine.fault = away()
    parties.next_round(server)
    assert all_know(parties)
    assert "site-03 takes the state after round 2, signed by 4 sites" in caplog.text
    plain, late = sent(parties, "announce", "site-01")[-1], sent(parties, "announce", "site-03")[-1]
    size = parties.terms.masked_bytes
    assert size < late - plain < size + 700
    for _ in range(4):
        parties.engine.fault = away("site-03")
        parties.next_round(server)
    parties.engine.fault = away()
    parties.next_round(server)
    assert all_know(parties)
    # fedadam: parameters, average and two moments.
    late = sent(parties, "announce", "site-03")[-1]
    assert 16 * parties.terms.num_parameters < late - plain < 16 * 12 + 800


def test_lost_result_costs_its_site_nothing(parties) -> None:
    """Whether the site acted or not: it gets the sum again, beside the signatures of the others."""
    server = parties.aggregator()
    parties.engine.fault = lambda stage, site, exchange: {
        ("result", "site-02"): "before",
        ("result", "site-04"): "after",
    }.get((stage, site))
    parties.next_round(server)
    assert newest(parties, "site-02").round_number == 0
    assert newest(parties, "site-04").round_number == 1
    parties.engine.fault = away()
    assert parties.next_round(server).sites == parties.names
    assert all_know(parties)


def test_too_few_confirmations_stop_the_run_and_resume_ends_alike(parties) -> None:
    parties.engine.fault = lambda stage, site, exchange: "before" if stage == "result" else None
    with pytest.raises(TrainingError, match="2 more sites must confirm the new model"):
        parties.next_round()
    assert sum(stage.stage == "result" for stage in parties.stages) == 3
    parties.engine.fault = away()
    assert parties.next_round().sites == parties.names
    assert all_know(parties)


def test_one_confirmation_is_as_good_as_none_and_does_not_stand_in_the_way(parties) -> None:
    """site-01 has the new state, the others have not: the round is summed again to the same end."""
    parties.engine.fault = lambda stage, site, exchange: (
        "before" if stage == "result" and site != "site-01" else None
    )
    with pytest.raises(TrainingError, match="1 more sites must confirm"):
        parties.next_round()
    known = newest(parties, "site-01")
    assert known.round_number == 1
    parties.engine.fault = away()
    parties.next_round()
    assert newest(parties, "site-01") is known
    assert all_know(parties)


@pytest.mark.parametrize("sites_restart", [False, True], ids=["server", "everybody"])
def test_restart_continues(parties, sites_restart: bool) -> None:
    parties.next_round()
    parties.engine.fault = away("site-05")
    parties.next_round()
    parties.engine.fault = away()
    if sites_restart:
        for site in parties.sites.values():
            site.restart()
        assert newest(parties, "site-05").round_number == 1
    assert parties.next_round().sites == parties.names  # by a new server
    assert all_know(parties)


def test_confirmed_round_without_a_checkpoint_is_not_summed_again(parties) -> None:
    parties.next_round()
    first, found = parties.state, parties.next_round()
    trained = [list(site.trainings) for site in parties.sites.values()]
    second, parties.state = parties.state, first
    again = parties.next_round()
    assert parties.state.digest == second.digest
    assert again.sites == found.sites
    np.testing.assert_array_equal(again.update, found.update)
    assert again.secure.transcript == found.secure.transcript
    assert (again.bytes_down, again.bytes_up) == (found.bytes_down, found.bytes_up)
    assert found.bytes_up > 0
    assert [list(site.trainings) for site in parties.sites.values()] == trained
    assert parties.next_round().sites == parties.names
    assert all_know(parties)


def test_round_given_up_moves_nothing(parties) -> None:
    server = parties.aggregator()
    parties.next_round(server)
    SecureJournal(parties.path / "server" / "rounds.jsonl").record_given_up(2)
    parties.state = replace(parties.state, round_number=2)
    found = parties.next_round()
    assert found.sites == parties.names
    assert parties.state.round_number == 3
    assert all_know(parties)


def test_site_without_its_disk_says_so_and_is_sent_the_state(parties) -> None:
    server = parties.aggregator()
    parties.next_round(server)
    parties.next_round(server)
    for path in (parties.path / "site-02" / "model").iterdir():
        path.unlink()
    parties.sites["site-02"].restart()
    assert parties.next_round(server).failures == {"site-02": "behind"}
    assert parties.next_round(server).failures == {}
    assert all_know(parties)


def test_damaged_state_is_named(parties) -> None:
    parties.next_round()
    (path,) = (parties.path / "site-02" / "model").iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"round-000001.*delete it, and the site takes"):
        parties.sites["site-02"].restart()


def test_site_that_signs_another_state_is_named_and_not_counted(parties) -> None:
    honest = parties.sites["site-02"].handle

    def other(stage: str, body: bytes) -> bytes:
        reply = honest(stage, body)
        if stage != "result":
            return reply
        model = parties.sites["site-02"].secure._model
        claim = replace(
            _claim(parties, model), state=bytes(32)
        )  # as a machine would that computes other bits
        return claim.confirmed_by(parties.identities["site-02"], roster=parties.roster).to_bytes()

    parties.sites["site-02"].handle = other
    parties.next_round()
    last = parties.stages[-1]
    assert last.failures == {"site-02": "model bytes do not match the announced hash"}
    del parties.sites["site-02"].handle


def _claim(parties, model):
    _, _, body = next(each for each in reversed(parties.engine.sent) if each[0] == "result")
    summed = BroadcastSum.from_bytes(body, packed_size=parties.terms.masked_bytes).summed
    return ModelClaim(
        plan=parties.rule.plan, round_number=1, sum=summed.digest, state=model.newest.digest
    )


def many_rounds(parties, num_rounds: int) -> None:
    """One of three sites is away in two of three rounds, in turn or for long."""
    rng = np.random.default_rng(5)
    server, total = parties.aggregator(), 0
    for number in range(1, num_rounds + 1):
        absent = [f"site-0{rng.integers(3, 6)}"] if rng.random() < 2 / 3 else []
        if number % 10 in (6, 7, 8):
            absent = ["site-04"]  # longer than sums are kept
        if number % 7 == 0:
            server = parties.aggregator()  # a server that was started again
        if number % 9 == 0:
            parties.sites["site-05"].restart()
        parties.engine.fault = away(*absent)
        found = parties.next_round(server)
        assert set(found.sites) == set(parties.names) - set(absent)
        assert all_know(parties, *found.sites)
        total += len(absent)
    assert parties.state.round_number == num_rounds
    assert total > num_rounds / 2


def test_rounds_with_sites_away_now_and_then(parties) -> None:
    many_rounds(parties, 8)


@pytest.mark.slow
def test_fifty_rounds_with_three_sites_away_now_and_then(parties) -> None:
    many_rounds(parties, 50)
