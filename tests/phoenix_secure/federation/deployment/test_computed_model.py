"""Deployed sites compute the model: over folders in every test run, over Flower among the slow."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

import dishonest
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.journal import SecureJournal
from protocol import RoundSpec, SessionAborted

_seeds = itertools.count(300)


class InventiveServer:
    """Two honest rounds over five deployed sites; then its models are not those of the sums."""

    def __init__(self, federation, path) -> None:
        self.federation = federation
        self.job = federation.job(f"seed={next(_seeds)}", "federation.rounds=4")
        self.folder = RunFolder(path)
        self.states = [self.job.start(self.folder, overwrite=False)]
        self.reports = []
        events = self.job.events(self.states[0], self.folder)
        for event in events:
            if isinstance(event, RoundReport):
                self.reports.append(event)
                self.states.append(self.folder.load_state(config=self.job.config))
                if event.round_number == 2:
                    break
        events.close()
        self.server = dishonest.DishonestServer(federation, self.job)
        self.journal = SecureJournal(self.folder.server_rounds)
        self.sites = self.server.sites

    def offer(self, parameters: np.ndarray, *, base: int = 2) -> tuple[RoundSpec, bytes]:
        """Specification and announcement of round 3 from ``parameters``, signed."""
        model = TrainRequest(round_number=3, parameters=parameters).to_bytes()
        spec = self.server.spec(
            model, protocol_round=self.journal.reserve(3), previous=self.journal.previous
        )
        return spec, self.server.offer(spec, model, base=base)

    def is_refused(self, parameters: np.ndarray, *, base: int = 2) -> None:
        """By every site, which writes down why."""
        _, offer = self.offer(parameters, base=base)
        self.server.is_refused(
            "announce",
            dict.fromkeys(self.sites, offer),
            why="after round 2",
            code=FailureCode.ANOTHER_MODEL,
        )

    def goes_on(self) -> None:
        """The sites are none the worse for it: an honest server ends the run over all five."""
        self.server.close()
        state = self.folder.load_state(config=self.job.config)
        assert dataclasses.replace(state, round_number=2).digest == self.states[2].digest
        for event in self.job.events(state, self.folder):
            if isinstance(event, RoundReport):
                assert event.sites == self.federation.sites


def one_bit(parameters: np.ndarray, place: int = 7) -> np.ndarray:
    """``parameters`` with one bit of one weight changed."""
    changed = parameters.copy()
    changed.view(np.uint32)[place] ^= 1
    return changed


def older_models(server: InventiveServer) -> None:
    """The first model and that of round 1, called the newest or by their own number."""
    first, second, _ = server.states
    server.is_refused(first.parameters)
    server.is_refused(first.parameters, base=0)
    server.is_refused(second.parameters)
    server.is_refused(second.parameters, base=1)


def two_models(server: InventiveServer) -> None:
    """Two sites are offered the true model, three another one, in one round of one number."""
    true = server.states[2].parameters
    spec, offer = server.offer(true)
    false = TrainRequest(round_number=3, parameters=one_bit(true)).to_bytes()
    other = server.server.spec(false, protocol_round=spec.round, previous=server.journal.previous)
    offers = dict.fromkeys(server.sites[2:], server.server.offer(other, false, base=2))
    server.server.is_refused(
        "announce", offers, why="after round 2", code=FailureCode.ANOTHER_MODEL
    )
    answers = server.server.ask("announce", dict.fromkeys(server.sites[:2], offer))
    session = server.server.session(spec)
    for site, answer in answers.items():
        session.receive(site, answer.body)
    with pytest.raises(SessionAborted, match="too few sites left"):
        session.close_stage()
    assert len(server.server.answered("mask")) == 2 * len(server.sites)  # of the honest rounds


@pytest.mark.long
def test_invented_models_are_refused_by_every_site(folder_federation, tmp_path) -> None:
    """After two honest rounds the server changes one bit, goes back, and tells two stories."""
    folder_federation.start()
    server = InventiveServer(folder_federation, tmp_path / "run")
    for report in server.reports:
        down = {stage.stage: stage.bytes_down / len(stage.asked) for stage in report.secure.stages}
        words = server.job.backend.terms.masked_bytes
        assert words <= down["result"] < words + 1000
        assert down["announce"] < 2000  # no model in it
    kept = folder_federation.site("site-01").memory(server.job.backend.plan.hash) / "model"
    assert [path.name[:12] for path in sorted(kept.iterdir())] == ["round-000001", "round-000002"]
    try:
        server.is_refused(one_bit(server.states[2].parameters))
        older_models(server)
        two_models(server)
    finally:
        server.goes_on()


@pytest.fixture
def over_flower(network, tmp_path):
    """Five site processes over TLS, proxy and SuperLink; they end the run in peace."""
    server = InventiveServer(network, tmp_path / "run")
    yield server
    server.goes_on()


@pytest.mark.slow
def test_one_bit_of_one_weight_is_refused_by_every_site_over_flower(over_flower) -> None:
    parameters = over_flower.states[2].parameters
    for place in (0, parameters.size // 2, parameters.size - 1):
        over_flower.is_refused(one_bit(parameters, place))


@pytest.mark.slow
def test_an_older_model_is_refused_by_every_site_over_flower(over_flower) -> None:
    older_models(over_flower)


@pytest.mark.slow
def test_two_models_for_two_sites_are_refused_over_flower(over_flower) -> None:
    two_models(over_flower)


@pytest.mark.long
def test_site_that_lost_its_state_catches_up_with_what_others_signed(
    folder_federation, tmp_path
) -> None:
    federation = folder_federation
    federation.start()
    job = federation.job(f"seed={next(_seeds)}", "federation.rounds=3")
    folder = RunFolder(tmp_path / "run")
    events = job.events(job.start(folder, overwrite=False), folder)
    for event in events:
        if isinstance(event, RoundReport) and event.round_number == 2:
            break
    events.close()
    kept = federation.site("site-04").memory(job.backend.plan.hash) / "model"
    federation.stop.set()
    for thread in federation.threads:
        thread.join(60)
    federation.stop.clear()
    for path in kept.iterdir():
        path.unlink()
    federation.threads.clear()
    federation.start()
    job = federation.job(f"seed={job.config.seed}", "federation.rounds=3")
    state = job.resume(folder)
    rounds = [event for event in job.events(state, folder) if isinstance(event, RoundReport)]
    (report,) = rounds
    # Its server believed that it had the state; it says that it is behind, and is the one dropout.
    assert report.failures == {"site-04": "behind"}


@pytest.mark.long
def test_models_from_the_server_need_the_owners_word(folder_federation, tmp_path) -> None:
    """Under every other policy the plan is refused; one that an older version began is finished."""
    federation = folder_federation
    federation.change("site-02", policy={"require_computed_model": False})
    federation.start()
    job = federation.job(
        f"seed={next(_seeds)}", "secure_aggregation.broadcast=model", "federation.rounds=1"
    )
    assert b"broadcast" not in job.backend.plan.to_bytes()
    with pytest.raises(TrainingError, match="1 of 5 sites take part"):
        train(job, tmp_path / "refused")
    why = federation.site("site-01").audit().lines()[-1]["why"]
    assert why.startswith("policy: secure_aggregation.broadcast is not sum")
    for name in federation.sites:
        record = federation.site(name).record(job.backend.plan.hash)
        record.record_result(0, transcript=bytes(32))
    (report,) = train(job, tmp_path / "begun")
    assert report.sites == federation.sites
    # The model comes down with the offer.
    announce, *_ = report.secure.stages
    assert announce.bytes_down > 5 * 4 * job.backend.model.initial_parameters.size


def train(job, path) -> list[RoundReport]:
    folder = RunFolder(path)
    events = job.events(job.start(folder, overwrite=False), folder)
    return [event for event in events if isinstance(event, RoundReport)]
