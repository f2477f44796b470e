"""A site that enters what it may not, round after round: does the run finish, and at whose cost?

Until 0.1.0 the sum of such a site was used; then it was refused, and one liar ended the run. Now
the server makes sums without a few inputs that it has already got: rounds like all others, and a
liar cannot know whom its lie will hit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.rounds import FinishedRound, GivenUpRound, run_rounds
from phoenix_secure.federation.server.suspects import WrongSum
from phoenix_secure.rng import SeedTree

pytestmark = pytest.mark.long

ROUNDS = 12
SETTINGS = (
    "secure_aggregation.collusion=0.08",
    "secure_aggregation.clip_norm=1.58",
)
LIAR = "site-06"


class Federation:
    """Six sites of which one may work with the server; ``LIAR`` lies when ``lies`` says.

    false_count   it counts failures of others in place of entering words beyond every clip
    """

    def __init__(
        self, made, liar, lies: Callable[[Federation], bool], *, false_count: int = 0
    ) -> None:
        self.parties, self.lies = made, lies
        self.asked: list[tuple[str, ...]] = []
        self.events: list = []
        cheat = liar(made, LIAR)
        words, size = made.terms.num_words, made.terms.word_bits // 8
        extra = len(made.terms.metric_words.bounds)

        def lie(body: bytes, honest: Callable[[], bytes]) -> bytes:
            data = honest()
            if not self.lies(self):
                return data
            tail = (words + extra) * size
            values = bytearray(data[-tail:])
            if false_count:
                count = int.from_bytes(values[-size:], "little") + false_count
                values[-size:] = (count % (1 << 8 * size)).to_bytes(size, "little")
            else:
                for word in range(words):  # beyond every clip, and within what a word holds
                    values[word * size + size - 1] ^= 0x40
            return cheat.reseal(LIAR, data, body=data[:-tail][-(4 + 32 + 4) :] + bytes(values))

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
            if isinstance(event, StageReport):
                made.stages.append(event)
            if isinstance(event, FinishedRound | GivenUpRound):
                self.events.append(event)
                made.state = event.state

    @property
    def given_up(self) -> tuple[int, ...]:
        return SecureJournal(self.parties.path / "server" / "rounds.jsonl").given_up


def federation(
    secure_parties,
    liar,
    path: Path,
    lies: Callable[[Federation], bool],
    *,
    broadcast: str = "sum",
    rounds: int = ROUNDS,
    settings: tuple[str, ...] = (),
    **more: int,
) -> Federation:
    made = secure_parties.Parties(
        path,
        *SETTINGS,
        f"federation.rounds={rounds}",
        *settings,
        f"secure_aggregation.broadcast={broadcast}",
        num_sites=6,
        num_parameters=40,
    )
    if broadcast == "model":
        made.state = ServerState.initial(made.zeros(), federation=made.config.federation)
    return Federation(made, liar, lies, **more)


@pytest.fixture(scope="module", params=["sum", "model"])
def ended(request, secure_parties, liar, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """``LIAR`` lied in every round, and the run finished."""
    path = tmp_path_factory.mktemp(request.param)
    made = federation(secure_parties, liar, path, lambda made: True, broadcast=request.param)
    made.run()
    return made


def test_run_finishes_although_one_site_lies_in_every_round(ended: Federation) -> None:
    assert ended.parties.state.round_number == ROUNDS
    finished = [event.report for event in ended.events if isinstance(event, FinishedRound)]
    # The first one, one for each honest site at most, and those in which all are asked once more.
    assert 1 <= len(ended.given_up) <= 8
    assert len(finished) == ROUNDS - len(ended.given_up)
    for report in finished:
        assert LIAR not in report.sites
        assert report.failures[LIAR].startswith(("set aside: the refused sums", "left out: no 1"))
    # Nobody is convicted by a sum: the journal of proofs is empty.
    assert ended.parties.excluded == []


def test_nobody_hears_whom_a_sum_is_made_without_before_all_inputs_are_in(
    ended: Federation,
) -> None:
    """All are asked in each round, train, and send; the survivor set is the first word of it."""
    everybody = tuple(ended.parties.names)
    assert ended.asked == [everybody] * ROUNDS
    for stage in ("share", "mask"):
        heard = {site for asked, site, _ in ended.parties.engine.sent if asked == stage}
        assert heard == set(everybody)
    masked = [site for stage, site, _ in ended.parties.engine.received if stage == "mask"]
    assert len(masked) == ROUNDS * len(everybody)


def test_every_sum_hides_among_as_many_as_the_plan_says(ended: Federation) -> None:
    """And sites train anew for each, under a number of its own: no two sums are of one training."""
    terms = ended.parties.terms
    signed: dict[int, set[str]] = {}
    for number, stage in enumerate(s for s in ended.parties.stages if s.stage == "check"):
        signed[number] = set(stage.asked)
    assert all(len(sites) - terms.num_colluders >= terms.num_honest for sites in signed.values())
    for site in ended.parties.sites.values():
        assert site.trainings == list(range(1, ROUNDS + 1))


def test_model_that_follows_is_that_of_the_sums_that_were_right(ended: Federation) -> None:
    parameters = ended.parties.zeros()
    for event in ended.events:
        if isinstance(event, FinishedRound):
            report = event.report
            update = ended.parties.oracle(report.sites, report.round_number, parameters=parameters)
            parameters = (parameters + update).astype(np.float32)
    np.testing.assert_allclose(ended.parties.state.parameters, parameters, atol=1e-5)


def test_all_take_part_again_when_the_lie_ends(secure_parties, liar, tmp_path: Path) -> None:
    made = federation(secure_parties, liar, tmp_path, lambda made: len(made.asked) == 2)
    made.run()
    assert made.given_up == (2,)
    sums = [event.report.sites for event in made.events if isinstance(event, FinishedRound)]
    everybody = tuple(made.parties.names)
    assert [sites == everybody for sites in sums] == [True] + [False] * 4 + [True] * 6


def test_a_lie_in_the_last_round_costs_that_round(secure_parties, liar, tmp_path: Path) -> None:
    made = federation(secure_parties, liar, tmp_path, lambda made: len(made.asked) == ROUNDS)
    made.run()
    assert made.given_up == (ROUNDS,)
    assert made.parties.state.round_number == ROUNDS


def test_a_run_without_any_sum_ends_in_an_error(secure_parties, liar, tmp_path: Path) -> None:
    """A release of one round: there is no model to end with."""
    made = federation(secure_parties, liar, tmp_path, lambda made: True, rounds=1)
    with pytest.raises(WrongSum, match="round 1: no honest sites enter such a sum"):
        made.run()


def test_failures_that_others_did_not_have_stop_no_run(secure_parties, liar, tmp_path) -> None:
    """One site counts three failures of six: two may fail, and the rest must hide a sum."""
    # Nothing is clipped and all have few images: no other count gives the lie away.
    settings = ("secure_aggregation.clip_norm=1000", "secure_aggregation.max_images=1024")
    made = federation(
        secure_parties, liar, tmp_path, lambda made: True, false_count=3, settings=settings
    )
    made.run()
    assert made.parties.state.round_number == ROUNDS
    finished = [event.report for event in made.events if isinstance(event, FinishedRound)]
    assert len(finished) >= ROUNDS - 8
    assert all(LIAR not in report.sites for report in finished)
