"""Differential privacy between sites: each keeps its own ledger and stops by its own policy."""

from __future__ import annotations

import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.evidence import Event
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg import privacy_plan
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.events import event_from_dict
from phoenix_secure.privacy.ledger import PrivacyLedger

pytestmark = pytest.mark.long

RECORD = ["privacy.unit=record", "privacy.epsilon=6", "privacy.sampling_rate=0.1"]


@pytest.fixture
def federation(folder_federation):
    return folder_federation


def train(job, path):
    folder = RunFolder(path)
    for _ in job.rounds(job.start(folder, overwrite=True), folder):
        pass
    return job.finish(folder)


def ledger_of(federation, site: str) -> PrivacyLedger:
    return PrivacyLedger(federation.site(site).path / "privacy.jsonl")


def test_every_site_charges_its_own_ledger_and_tells_the_server_no_metric(
    federation, tmp_path
) -> None:
    federation.start()
    job = federation.job(*RECORD)
    summary = train(job, tmp_path / "run")
    rounds = job.config.federation.rounds
    for site in job.backend.sites:
        releases = ledger_of(federation, site).releases()
        assert [each.round_number for each in releases] == list(range(1, rounds + 1))
        assert {each.plan for each in releases} == {job.backend.plan.hash}
        spent = epsilon_of([each.event for each in releases], delta=1e-5).value
        assert 0 < spent <= summary.guarantee["epsilon"] + 1e-9 <= 6 + 1e-9
    for line in RunFolder(tmp_path / "run").read_metrics():
        assert line["loss"] is line["num_images"] is None


@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(1.03, id="more noise then", marks=pytest.mark.slow),
        pytest.param(0.97, id="less noise then"),
    ],
)
def test_a_resumed_run_of_an_earlier_calibration_records_no_less_than_any_site_spends(
    federation, tmp_path, monkeypatch, factor: float
) -> None:
    """Four sites began with the noise of then; the owner of the fifth signs later."""
    overrides = [*RECORD, "federation.rounds=3"]
    right = noise_multiplier_for
    # Less noise of then must be within the budget too, or nobody goes on with it.
    now = 1.0 if factor > 1 else 1 / factor
    monkeypatch.setattr(
        privacy_plan, "noise_multiplier_for", lambda **asked: now * factor * right(**asked)
    )
    early, late = federation.sites[:4], federation.sites[4]
    federation.start()
    job, folder = federation.job(*overrides), RunFolder(tmp_path / "run")
    (federation.site(late).approvals / f"{job.backend.plan.hash}.json").unlink()
    next(job.rounds(job.start(folder, overwrite=False), folder))
    then = job.backend.privacy.event
    federation.close()

    monkeypatch.setattr(privacy_plan, "noise_multiplier_for", lambda **asked: now * right(**asked))
    federation.start()
    resumed = federation.job(*overrides)
    fresh = resumed.backend.privacy.event
    assert fresh != then
    state = resumed.resume(folder)
    for _ in resumed.rounds(state, folder):
        pass
    for site in early:
        assert set(ledger_of(federation, site).events()) == {then}
    assert set(ledger_of(federation, late).events()) == {fresh}
    evidence = RunEvidence.open(folder, identity=resumed.backend.party(folder).identity)
    recorded = [event_from_dict(e.facts["mechanism"]) for e in evidence.of(Event.PRIVACY)]
    assert recorded[0] == then
    least = min(then, fresh, key=lambda event: event.noise_multiplier)
    assert set(recorded[1:]) == {least}
    claimed = resumed.finish(folder).guarantee["epsilon"]
    for site in federation.sites:
        assert epsilon_of(ledger_of(federation, site).events(), delta=1e-5).value <= claimed <= 6


@pytest.mark.slow
def test_a_second_run_on_the_same_images_adds_up_until_the_sites_stop(federation, tmp_path) -> None:
    for site in federation.sites:
        federation.change(site, policy={"max_epsilon": 6.0, "max_total_epsilon": 7.0})
    federation.start()
    train(federation.job(*RECORD), tmp_path / "first")
    again = federation.job(*RECORD, "seed=5", "secure_aggregation.max_attempts=1")
    with pytest.raises(TrainingError, match="budget"):
        train(again, tmp_path / "second")
    for site in federation.sites:
        releases = ledger_of(federation, site).releases()
        spent = epsilon_of([each.event for each in releases], delta=1e-5).value
        assert spent <= 7.0
        lines = federation.site(site).audit().lines()
        assert any("above the site's 7" in line.get("why", "") for line in lines)


def test_a_plan_above_a_sites_epsilon_or_without_one_is_refused_there_alone(
    federation, tmp_path
) -> None:
    federation.change("site-02", policy={"max_epsilon": 5.0})
    federation.start()
    summary = train(federation.job(*RECORD), tmp_path / "run")
    assert summary.guarantee["epsilon"] <= 6
    lines = RunFolder(tmp_path / "run").read_metrics()
    assert all("site-02" not in line["sites"] for line in lines)
    assert not (federation.site("site-02").path / "privacy.jsonl").exists()
    refusals = [line.get("why", "") for line in federation.site("site-02").audit().lines()]
    assert any("epsilon or delta is above (5, 1e-05)" in why for why in refusals)
