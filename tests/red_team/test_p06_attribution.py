"""A site that enters what it may not, round after round: the run ends, and with whose help?

Until 0.1.0 the sum of such a site was used; then it was refused, and the error named everybody.
Smaller sums could tell who it was, and could tell more than that: here they are rounds like all
others, over groups that are fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.rounds import FinishedRound, GivenUpRound, run_rounds
from phoenix_secure.federation.server.suspects import WrongSum
from phoenix_secure.rng import SeedTree

ROUNDS = 4
SETTINGS = (
    "secure_aggregation.collusion=0.08",
    "secure_aggregation.clip_norm=1.58",
    f"federation.rounds={ROUNDS}",
)
GROUPS = [[f"site-{k:02d}" for k in range(start, start + 4)] for start in (1, 5, 9)]


class Federation:
    """Twelve sites of which one may work with the server; ``site-06`` lies when ``lies`` says."""

    def __init__(self, made, liar, lies: Callable[[Federation], bool]) -> None:
        self.parties, self.lies = made, lies
        self.error = ""
        self.asked: list[tuple[str, ...]] = []
        self.events: list = []
        cheat = liar(made, "site-06")
        words, size = made.terms.num_words, made.terms.word_bits // 8
        extra = len(made.terms.metric_words.bounds)

        def lie(body: bytes, honest: Callable[[], bytes]) -> bytes:
            data = honest()
            if not self.lies(self):
                return data
            tail = (words + extra) * size
            values = bytearray(data[-tail:])
            for word in range(words):  # beyond every clip, and within what a word holds
                values[word * size + size - 1] ^= 0x40
            return cheat.reseal("site-06", data, body=data[:-tail][-(4 + 32 + 4) :] + bytes(values))

        cheat.lies_at("mask", lie)
        exchange = made.engine.exchange

        def watched(stage: str, requests: dict[str, bytes], **more):
            if stage == "announce":
                self.asked.append(tuple(requests))
            return exchange(stage, requests, **more)

        made.engine.exchange = watched

    def run(self) -> None:
        """All rounds that are left, by a server that has just been started."""
        made = self.parties
        for event in run_rounds(
            made.state, config=made.config, aggregator=made.aggregator(), seeds=SeedTree(0)
        ):
            if isinstance(event, FinishedRound | GivenUpRound):
                self.events.append(event)
                made.state = event.state

    @property
    def given_up(self) -> tuple[int, ...]:
        return SecureJournal(self.parties.path / "server" / "rounds.jsonl").given_up


def federation(
    secure_parties, liar, path: Path, lies: Callable[[Federation], bool], *, broadcast: str = "sum"
) -> Federation:
    made = secure_parties.Parties(
        path,
        *SETTINGS,
        f"secure_aggregation.broadcast={broadcast}",
        num_sites=12,
        num_parameters=40,
    )
    if broadcast == "model":
        made.state = ServerState.initial(made.zeros(), federation=made.config.federation)
    return Federation(made, liar, lies)


@pytest.fixture(scope="module", params=["sum", "model"])
def ended(request, secure_parties, liar, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """``site-06`` lied in every round, until the run ended."""
    path = tmp_path_factory.mktemp(request.param)
    made = federation(secure_parties, liar, path, lambda made: True, broadcast=request.param)
    with pytest.raises(WrongSum) as caught:
        made.run()
    made.error = str(caught.value)
    return made


def test_run_ends_with_the_group_that_spoils_it(ended: Federation) -> None:
    assert "probably one of site-05, site-06, site-07, site-08 does not run" in ended.error
    assert "nobody is excluded" in ended.error
    everybody = set(ended.parties.names)
    left_out = [sorted(everybody - set(asked)) for asked in ended.asked]
    assert left_out == [[], GROUPS[0], GROUPS[1], []]
    # Two rounds were given up, one moved the model over eight sites, and the last one is left for
    # people to decide on.
    assert ended.given_up == (1, 2)
    assert [type(event) for event in ended.events] == [GivenUpRound, GivenUpRound, FinishedRound]
    assert ended.events[-1].report.sites == tuple(sorted(everybody - set(GROUPS[1])))
    assert ended.parties.excluded == []


def test_every_sum_hides_among_as_many_as_the_plan_says(ended: Federation) -> None:
    """And sites train anew for each, under a number of its own: no two sums are of one training."""
    terms = ended.parties.terms
    assert terms.num_honest == 6
    for asked in ended.asked:
        assert len(asked) - terms.num_colluders >= terms.num_honest
        for group in GROUPS:
            assert set(group) <= set(asked) or set(group).isdisjoint(asked)
    for name, site in ended.parties.sites.items():
        numbers = [number for number, asked in enumerate(ended.asked, start=1) if name in asked]
        assert site.trainings == numbers


def test_model_that_follows_is_that_of_the_sum_that_was_right(ended: Federation) -> None:
    update = ended.parties.oracle(ended.events[-1].report.sites, 3)
    np.testing.assert_allclose(ended.parties.state.parameters, update.astype(np.float32), atol=1e-6)
    assert ended.parties.state.round_number == 3


def test_run_goes_on_when_the_lie_ends(secure_parties, liar, tmp_path: Path) -> None:
    made = federation(secure_parties, liar, tmp_path, lambda made: len(made.asked) == 2)
    made.run()
    assert made.given_up == (2,)
    assert made.parties.state.round_number == ROUNDS
    assert [len(asked) for asked in made.asked] == [12, 12, 8, 12]


def test_last_round_is_not_given_up_in_silence(secure_parties, liar, tmp_path: Path) -> None:
    made = federation(secure_parties, liar, tmp_path, lambda made: len(made.asked) == ROUNDS)
    with pytest.raises(WrongSum, match=f"round {ROUNDS}: no honest sites enter such a sum"):
        made.run()
    assert made.parties.state.round_number == ROUNDS - 1
