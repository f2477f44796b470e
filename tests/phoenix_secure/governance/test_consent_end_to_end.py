"""Acceptance: five sites over folders, real PySyft; what the owner did not sign does not run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.engines.exchange import Failure, FailureCode
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.governance import approver as approver_module
from phoenix_secure.governance import consent as consent_module

pytestmark = pytest.mark.long

LAST = "site-05"


def train(job, folder: RunFolder) -> dict:
    state = job.start(folder, overwrite=True)
    for _ in job.rounds(state, folder):
        pass
    (line,) = folder.read_metrics()
    assert np.isfinite(folder.load_state(config=job.config).parameters).all()
    return line


def train_without_the_last(governed, tmp_path, *overrides: str) -> list[str]:
    """Run the plan; the last site refused and the others went on. Returns its reasons."""
    governed.start()
    line = train(governed.job(*overrides), RunFolder(tmp_path / "run"))
    assert len(line["sites"]) == 4
    events = governed.log(LAST)
    assert not [each for each in events if each["event"] in ("ready", "answered")]
    for name in governed.sites[:-1]:
        assert [each for each in governed.log(name) if each["event"] == "answered"]
    return [each["why"] for each in events if each["event"] == "refused"]


def test_plan_that_all_owners_approved_is_trained_by_all(governed, tmp_path) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites:
        governed.approve(name, plan)
    governed.start()
    assert train(governed.job(), RunFolder(tmp_path / "run"))["sites"] == list(governed.sites)
    for name in governed.sites:
        events = [line["event"] for line in governed.log(name)]
        assert events[0] == "approved"
        assert "answered" in events


def test_unapproved_plan_is_refused_recorded_and_the_others_go_on(governed, tmp_path) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites[:-1]:
        governed.approve(name, plan)
    assert set(train_without_the_last(governed, tmp_path)) == {"no approval"}


def test_proposal_altered_after_approval_is_refused(governed, tmp_path) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites:
        governed.approve(name, plan)
    path = governed.inbox(LAST, f"plan-{plan[:16]}") / "code" / "plan.json"
    altered = json.loads(path.read_bytes())
    altered["config"]["federation"]["rounds"] = 500
    path.write_text(json.dumps(altered))
    reasons = train_without_the_last(governed, tmp_path)
    assert set(reasons) == {"the proposal was changed after it was approved"}


def test_run_of_an_altered_plan_finds_no_site(governed, tmp_path) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites:
        governed.approve(name, plan)
    governed.start()
    with pytest.raises(TrainingError, match="0 of 5 sites take part"):
        train(governed.job("training.local_steps=3"), RunFolder(tmp_path / "run"))
    for name in governed.sites:
        assert governed.log(name)[-1]["why"] == "no approval"


def test_expired_approval_is_refused_and_its_expiry_recorded(
    governed, tmp_path, monkeypatch
) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites[:-1]:
        governed.approve(name, plan, days=30)
    governed.approve(LAST, plan, days=1)
    later = approver_module.dt.datetime.now(approver_module.dt.UTC)
    later += approver_module.dt.timedelta(days=1, seconds=2)

    class Tomorrow(approver_module.dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return later

    class Clock:
        datetime, UTC = Tomorrow, approver_module.dt.UTC

    monkeypatch.setattr(approver_module, "dt", Clock)
    reasons = train_without_the_last(governed, tmp_path)
    assert set(reasons) == {"the approval has expired"}
    expiries = [each for each in governed.log(LAST) if each["event"] == "approval expired"]
    assert [each["plan"] for each in expiries] == [plan]


EPSILON_50 = ("privacy.unit=record", "privacy.epsilon=50", "privacy.sampling_rate=0.1")


def test_plan_above_a_sites_epsilon_cannot_be_approved_there(governed) -> None:
    plan = governed.propose(*EPSILON_50).plan.hash
    governed.policy(LAST, max_epsilon=8)
    with pytest.raises(ConfigError, match=r"epsilon or delta is above \(8"):
        governed.approve(LAST, plan)
    assert not list(governed.site(LAST).approvals.iterdir())
    assert governed.desk(LAST).find(plan).status == "received"


def test_plan_above_a_sites_epsilon_is_refused_even_if_it_was_approved(governed) -> None:
    plan = governed.propose(*EPSILON_50).plan
    governed.approve(LAST, plan.hash)
    governed.policy(LAST, max_epsilon=8)
    governed.start()
    engine = FolderEngine(governed.exchange, sites=[LAST], session=plan.hash, poll_s=0.01)
    answers = engine.exchange("plan", {LAST: plan.to_bytes()}, deadline_s=60)
    assert answers[LAST] == Failure(code=FailureCode.REFUSED)
    assert governed.log(LAST)[-1]["why"].startswith("policy: epsilon or delta is above")


def test_plan_without_the_privacy_that_one_site_asks_for_is_trained_by_the_others(
    governed, tmp_path
) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites:
        governed.approve(name, plan)
    governed.policy(LAST, max_epsilon=8)
    (reason,) = set(train_without_the_last(governed, tmp_path))
    assert reason.startswith("policy: the plan has no differential privacy")


def test_rejection_withdraws_an_approval_from_the_next_request_on(governed, tmp_path) -> None:
    plan = governed.propose().plan.hash
    for name in governed.sites:
        governed.approve(name, plan)
    desk = governed.desk(LAST)
    desk.reject(desk.find(plan), reason="the ethics board has not met")
    assert set(train_without_the_last(governed, tmp_path)) == {"no approval"}
    rejected = [each for each in governed.log(LAST) if each["event"] == "rejected"]
    assert [each["why"] for each in rejected] == ["the ethics board has not met"]
    assert consent_module.consent_file(governed.site(LAST).approvals, plan).exists() is False
