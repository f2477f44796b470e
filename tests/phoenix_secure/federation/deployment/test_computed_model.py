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

_seeds = itertools.count(300)


@pytest.fixture(params=["folders", pytest.param("network", marks=pytest.mark.slow)])
def federation(request):
    if request.param == "network":
        return request.getfixturevalue("network")
    made = request.getfixturevalue("folder_federation")
    made.start()
    return made


def one_bit(parameters: np.ndarray) -> np.ndarray:
    changed = parameters.copy()
    changed.view(np.uint32)[7] ^= 1
    return changed


def test_invented_models_are_refused_by_every_site(federation, tmp_path) -> None:
    """After two honest rounds the server changes one bit, goes back, and tells two stories."""
    job = federation.job(f"seed={next(_seeds)}", "federation.rounds=4")
    folder = RunFolder(tmp_path / "run")
    first = job.start(folder, overwrite=False)
    reports = []
    events = job.events(first, folder)
    for event in events:
        if isinstance(event, RoundReport):
            reports.append(event)
            if event.round_number == 2:
                break
    events.close()
    for report in reports:
        down = {stage.stage: stage.bytes_down / len(stage.asked) for stage in report.secure.stages}
        words = job.backend.terms.masked_bytes
        assert words <= down["result"] < words + 1000
        assert down["announce"] < 2000  # no model in it
    second = folder.load_state(config=job.config)
    kept = federation.site("site-01").memory(job.backend.plan.hash) / "model"
    assert [path.name[:12] for path in sorted(kept.iterdir())] == ["round-000001", "round-000002"]

    server = dishonest.DishonestServer(federation, job)
    journal = SecureJournal(folder.server_rounds)
    try:

        def refused(parameters: np.ndarray, sites=server.sites, *, base: int = 2) -> None:
            model = TrainRequest(round_number=3, parameters=parameters).to_bytes()
            spec = server.spec(model, protocol_round=journal.reserve(3), previous=journal.previous)
            offer = server.offer(spec, model, base=base)
            server.is_refused(
                "announce",
                dict.fromkeys(sites, offer),
                why="after round 2",
                code=FailureCode.ANOTHER_MODEL,
            )

        refused(one_bit(second.parameters))
        refused(first.parameters)
        refused(first.parameters, base=0)
        refused(one_bit(second.parameters), server.sites[2:])
    finally:
        server.close()
    # The sites are none the worse for it.
    state = folder.load_state(config=job.config)
    assert dataclasses.replace(state, round_number=2).digest == second.digest
    for event in job.events(state, folder):
        if isinstance(event, RoundReport):
            assert event.sites == federation.sites


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
