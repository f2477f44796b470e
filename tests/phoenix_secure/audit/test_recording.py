"""What an audit leaves in its run's ledger, and what a report says of it."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from built_once import built_once
from command_line import phoenix
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.recording import AuditRecords
from phoenix_secure.audit.report import AuditReport
from phoenix_secure.audit.suite import Request
from phoenix_secure.compliance.build import build_report
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import Event, read_ledger
from phoenix_secure.federation.run.folder import RunFolder

pytestmark = pytest.mark.long

SETTINGS: dict[str, Any] = {
    "data": {"name": "digits", "max_images": 300, "held_out": 0.4, "reference": 0.2},
    "partition": {"scheme": "iid", "num_sites": 3},
    "secure_aggregation": {"mode": "off"},
    "model": {"block_channels": [8, 8], "attention": [False, False], "mid_attention": False},
    "diffusion": {"num_timesteps": 50},
    "training": {"batch_size": 8, "local_steps": 2},
    "federation": {"rounds": 2, "min_sites": 3},
    "sampling": {"num_steps": 2},
    "evaluation": {"num_images": 0},
    "output": {"num_samples": 4, "samples_every_rounds": 0},
    "audit": {"profile": "smoke"},
    "device": "cpu",
}


def call(audited: Path, *arguments: str) -> str:
    """What the command printed."""
    return phoenix(*arguments, environ={"PHOENIX_DATA_DIR": str(audited.parent / "cache")}).out


@pytest.fixture(scope="session")
def built_audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command with an audit at its end; never change it."""

    def build(folder: Path) -> None:
        (folder / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("phoenix_secure.device.num_cores", lambda: 1)
            done = phoenix(
                *("run", "run.yaml", "--run-dir", "run"),
                cwd=folder,
                environ={"PHOENIX_DATA_DIR": str(folder / "cache")},
            )
        assert done.code == 0, done.err

    return built_once(tmp_path_factory, "audited", build)


@pytest.fixture
def audited(built_audited: Path, tmp_path: Path) -> Path:
    """A copy of that run, free to be audited again."""
    return Path(shutil.copytree(built_audited, tmp_path / "audited")) / "run"


def events(run: Path) -> list[str]:
    return [entry.event for entry in read_ledger(run / "evidence" / "ledger.jsonl").entries]


def test_terms_stand_before_the_first_round_and_the_plan_before_the_result(audited: Path) -> None:
    ledger = read_ledger(audited / "evidence" / "ledger.jsonl")
    terms, plan = ledger.of(Event.AUDIT_PLANNED)
    (result,) = ledger.of(Event.AUDITED)
    assert terms.index < ledger.of(Event.ROUND_STARTED)[0].index
    assert ledger.of(Event.EXPORTED)[-1].index < plan.index < result.index
    assert terms.facts["terms"] == Request(profile=profile_named("smoke")).terms
    report = json.loads((audited / "audit" / "audit.json").read_text())
    assert plan.facts["sha256"] == report["plan_sha256"]


def test_the_sites_sign_the_audit_s_result(audited: Path) -> None:
    ledger = read_ledger(audited / "evidence" / "ledger.jsonl")
    last = ledger.entries[-1]
    assert last.event == Event.WITNESSED
    assert len(last.facts["signatures"]) == 3
    assert last.facts["head"]["size"] > ledger.of(Event.AUDITED)[0].index


def test_the_report_says_when_terms_and_plan_were_fixed(audited: Path) -> None:
    plan = build_report(audited).value("E1.plan")
    assert plan["terms"] == "fixed before training, and kept"
    assert (plan["plan_in_the_ledger"], plan["plans_in_the_ledger"]) == (True, 1)


def test_a_second_look_with_other_terms_is_counted_and_said(audited: Path, tmp_path: Path) -> None:
    arguments = ("audit", str(audited), "--profile", "smoke", "--seed", "7")
    call(audited, "report", str(audited))
    said = call(audited, *arguments, "--out", str(tmp_path / "elsewhere"))
    assert "superseded by this audit" in said
    assert (audited / "report" / "SUPERSEDED.txt").exists()
    plan = build_report(audited).value("E1.plan")
    assert plan["plans_in_the_ledger"] == 2  # though nothing of it lies in the run's folder
    call(audited, *arguments)
    plan = build_report(audited).value("E1.plan")
    assert plan["terms"] == "fixed before training, and not kept by this audit"
    assert plan["plan_in_the_ledger"] is True


def test_an_audit_that_drops_attacks_does_not_keep_the_terms(
    audited: Path,
) -> None:
    call(audited, "audit", str(audited), "--profile", "smoke", "--attack", "nearest")
    assert "not kept" in build_report(audited).value("E1.plan")["terms"]


@pytest.mark.parametrize("attacks", [None, [["loss"]], "loss", [1]])
def test_terms_that_a_ledger_has_in_another_form_are_not_kept(
    audited: Path, attacks: object
) -> None:
    report = AuditReport.model_validate_json((audited / "audit" / "audit.json").read_bytes())
    assert not report.plan.keeps({"attacks": attacks}, skipped=())


def test_without_all_sites_keys_the_signatures_of_the_run_stay_the_last(
    audited: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(audited, tmp_path / "copy"))
    (copy / "sites" / "site-02" / "identity.key").unlink()
    before = build_report(copy).value("H1.witnesses")
    (copy / "audit" / "other.json").write_text("{}")
    records = AuditRecords.of(RunFolder(copy))
    assert records is not None
    records.audited(copy / "audit" / "other.json")
    assert events(copy)[-1] == Event.AUDITED
    assert build_report(copy).value("H1.witnesses")["signed"] == before["signed"] == 3


@pytest.mark.parametrize("spoil", ["key-open-to-others", "no-key"])
def test_a_copy_whose_key_is_not_to_be_used_records_nothing(
    audited: Path, tmp_path: Path, spoil: str
) -> None:
    copy = Path(shutil.copytree(audited, tmp_path / "copy"))
    key = copy / "server" / "identity.key"
    key.chmod(0o644) if spoil == "key-open-to-others" else key.unlink()
    assert AuditRecords.of(RunFolder(copy)) is None


def test_the_same_audit_again_adds_nothing(audited: Path) -> None:
    records = AuditRecords.of(RunFolder(audited))
    assert records is not None
    before = events(audited)
    records.audited(audited / "audit" / "audit.json")
    records.fix_terms(Request(profile=profile_named("fast")))
    assert events(audited) == before


def test_nothing_is_written_while_another_process_works_in_the_run(
    audited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(audited)
    records = AuditRecords.of(folder)
    assert records is not None
    monkeypatch.setattr("phoenix_secure.audit.recording._PATIENCE_S", 0.3)
    # flock tells open files apart, so this one is as foreign as another process' would be.
    with (audited / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process"):
            records.audited(audited / "config.yaml")


def test_a_copy_without_the_server_s_key_can_be_audited_and_records_nothing(
    audited: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (copy / "evidence").mkdir(parents=True)
    (copy / "evidence" / "ledger.jsonl").write_bytes(
        (audited / "evidence" / "ledger.jsonl").read_bytes()
    )
    assert AuditRecords.of(RunFolder(copy)) is None
