"""A pooled audit of five real sites around a folder: from the plan to the verified report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from phoenix_secure.audit.report import AuditReport
from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.schema import Edition
from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.evidence import Event, read_ledger
from phoenix_secure.federation.deployment.site_parts import site_parts
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.rng import SeedTree

AUDITED = (
    *("audit.at_sites=true", "audit.bins=64", "data.max_images=700"),
    *("data.held_out=0.3", "data.reference=0.0"),
    # Beside other programs a site may take long to count.
    *("federation.deadline_s=1200", "secure_aggregation.stage_deadline_s=600"),
)


def allow(federation, *names: str) -> None:
    for name in names or federation.sites:
        policy = yaml.safe_load(federation.site(name).settings_file.read_text())["policy"]
        federation.change(name, policy=policy | {"allow_pooled_audit": True})


def run(federation, job, path: Path) -> RunFolder:
    folder = RunFolder(path)
    state = job.start(folder, overwrite=False)
    for _ in job.rounds(state, folder):
        pass
    job.finish(folder)
    return folder


@pytest.mark.long
def test_sites_audit_the_final_model_and_the_report_verifies(
    folder_federation, tmp_path: Path
) -> None:
    allow(folder_federation)
    folder_federation.start()
    job = folder_federation.job(*AUDITED)
    folder = run(folder_federation, job, tmp_path / "run")
    audit = AuditReport.model_validate_json((folder.path / "audit" / "audit.json").read_bytes())
    assert audit.pooled.sites_answered == 5
    assert audit.pooled.num_members == audit.pooled.num_others >= 5 * 20
    assert audit.pooled.frechet > 0
    assert [attack.name for attack in audit.attacks] == ["loss", "pia"]

    # The plan's terms before the first round, the plan before the scores, the result signed.
    entries = read_ledger(folder.path / "evidence" / "ledger.jsonl").entries
    kinds = [entry.event for entry in entries]
    planned = [n for n, kind in enumerate(kinds) if kind == Event.AUDIT_PLANNED]
    audited = kinds.index(Event.AUDITED)
    last_round = max(n for n, kind in enumerate(kinds) if kind == Event.AGGREGATED)
    assert planned[0] < kinds.index(Event.ROUND_STARTED)
    assert last_round < planned[1] < audited
    assert entries[planned[1]].facts["sha256"] == audit.plan_sha256
    witnessed = [n for n, kind in enumerate(kinds) if kind == Event.WITNESSED]
    assert max(witnessed) > audited
    assert set(entries[max(witnessed)].facts["signatures"]) == set(folder_federation.sites)

    # Each site's own figures are in its own folder alone.
    names = []
    for name in folder_federation.sites:
        place = folder_federation.site(name).path / "audits" / job.backend.plan.hash
        own = AuditReport.model_validate_json((place / "audit.json").read_bytes())
        assert (place / "audit.json").stat().st_mode & 0o777 == 0o600
        assert own.edition == "confidential"
        names.append(own.pooled.num_members)
    assert sum(names) == audit.pooled.num_members

    # Report and verdict, as of a simulation's audit.
    server = folder_federation.server
    written = write_report(
        folder.path, identity=server.identity(server.roster()), edition=Edition.PUBLIC
    )
    fields = {
        field["id"]: field["value"]
        for field in json.loads((written.folder / "report.json").read_text())["fields"]
    }
    assert fields["E1.plan"]["terms"] == "fixed before training, and kept"
    assert fields["E1.plan"]["plan_in_the_ledger"]
    assert fields["E4.verdict"]["outcome"] == audit.verdict.outcome.value
    assert fields["E7.conditions"]["sites_answered"] == 5
    assert fields["E7.conditions"]["members"] == audit.pooled.num_members
    assert fields["F1.quality"]["rows"]["generated"]["frechet"] == audit.pooled.frechet
    roster = load_roster(server.path / "roster.bin", owner_key=None)
    found = verify_report(written.folder / "report.json", evidence=folder.path, roster=roster)
    assert found.failed == ()

    # Once: a run that is resumed asks nobody again.
    state = job.resume(folder)
    assert list(job.events(state, folder)) == []


@pytest.mark.long
def test_audit_without_enough_sites_leaves_the_model_and_says_so(
    folder_federation, tmp_path: Path
) -> None:
    allow(folder_federation)
    folder_federation.start()
    # No site of so few images holds out a hundred.
    job = folder_federation.job(*AUDITED, "audit.min_images=100")
    folder = run(folder_federation, job, tmp_path / "run")
    assert folder.model.exists()
    assert not (folder.path / "audit").exists()
    entries = read_ledger(folder.path / "evidence" / "ledger.jsonl").entries
    failed = [entry for entry in entries if entry.event == Event.AUDIT_FAILED]
    assert [entry.facts["kind"] for entry in failed] == ["TrainingError"]
    for name in folder_federation.sites:
        assert not (folder_federation.site(name).path / "audits").exists()


@pytest.mark.long
def test_sites_refuse_the_plan_until_their_policy_allows_the_audit(
    folder_federation, tmp_path: Path
) -> None:
    folder_federation.start()
    job = folder_federation.job(*AUDITED)
    folder = RunFolder(tmp_path / "run")
    state = job.start(folder, overwrite=False)
    with pytest.raises(TrainingError, match="0 of 5 sites take part"):
        list(job.events(state, folder))


def test_policy_and_sheet_name_the_audit(folder_federation) -> None:
    config = load_config(None, [*folder_federation.settings, *AUDITED])
    plan = Plan.make(config, roster=folder_federation.server.roster(), bundle_hash="ab" * 32)
    sheet = PlanSheet.of(plan, policy=SitePolicy())
    assert any("policy.allow_pooled_audit" in each for each in sheet.objections)
    assert sheet.changed["audit.at_sites"] is True
    assert "WITHOUT NOISE" in sheet.facts()["audit at the sites"]
    assert SitePolicy(allow_pooled_audit=True).objection(plan) is None
    assert Plan.from_bytes(plan.to_bytes()) == plan


def test_guarantee_says_that_the_audit_is_outside_of_it(folder_federation) -> None:
    private = ("privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=0.3")
    job = folder_federation.job(*AUDITED, *private, approved=False)
    told = " ".join(job.backend.guarantee().warnings)
    assert "audit.at_sites is on" in told
    assert "outside the guarantee" in told
    plain = folder_federation.job(*private, approved=False)
    assert "audit.at_sites" not in " ".join(plain.backend.guarantee().warnings)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("secure_aggregation.mode=off", "secure_aggregation.mode=on"),
        ("secure_aggregation.broadcast=model", "secure_aggregation.broadcast=sum"),
        ("data.held_out=0", r"raise\s+data.held_out"),
        ("exchange.personal=[norms]", r"exchange.personal=\[\]"),
        ("filtering.threshold=0.5", "filtering.threshold=0.0"),
        ("privacy.unit=site privacy.epsilon=8", "privacy.unit = site"),
    ],
)
def test_plans_under_which_sites_could_not_audit_are_refused(
    folder_federation, override: str, said: str
) -> None:
    config = load_config(None, [*folder_federation.settings, *AUDITED, *override.split()])
    with pytest.raises(ConfigError, match=said):
        Plan.make(config, roster=folder_federation.server.roster(), bundle_hash="ab" * 32)


def test_plans_without_an_audit_keep_their_bytes(folder_federation) -> None:
    config = load_config(None, list(folder_federation.settings))
    plan = Plan.make(config, roster=folder_federation.server.roster(), bundle_hash="ab" * 32)
    assert json.loads(plan.to_bytes())["config"]["audit"] == {"canaries": 0, "profile": "none"}


def test_held_out_images_of_a_public_set_are_at_one_site_each_and_trained_on_at_none(
    folder_federation, tmp_path: Path
) -> None:
    config = load_config(None, [*folder_federation.settings, *AUDITED])
    parts: list[tuple[SiteImages, SiteImages]] = []
    for place, name in enumerate(folder_federation.sites, start=1):
        folder = folder_federation.site(name)
        parts.append(
            site_parts(
                folder.settings(),
                config,
                SeedTree(config.seed),
                stream=f"site-{place:02d}",
                folder=folder,
                cache_dir=tmp_path / "cache",
            )
        )
    trained = [image.tobytes() for members, _ in parts for image in members.images]
    held_out = [image.tobytes() for _, others in parts for image in others.images]
    assert len(held_out) == len(set(held_out)) == 210  # 0.3 of 700
    assert len(trained) == 490
    assert not set(trained) & set(held_out)
    sizes = np.array([len(others.images) for _, others in parts])
    assert sizes.min() > 20
