"""Verification elsewhere: without torch and Flower, without a pinned key, without the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.compliance.output import mark_superseded, write_report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.errors import ConfigError

# A finder that refuses the heavy libraries: as if they were not installed.
_BLOCKED = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "flwr", "diffusers", "opacus"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from phoenix_secure.cli import main
sys.argv = ["phoenix-secure", *sys.argv[1:]]
main()
"""


def run_without_torch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED, *words], capture_output=True, text=True, timeout=600
    )


@pytest.mark.long
def test_verify_and_report_need_neither_torch_nor_flower(run: Path) -> None:
    report = str(run / "report" / "report.json")
    done = run_without_torch(
        "verify", report, "--evidence", str(run), "--roster", str(run / "roster.bin")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything holds" in done.stdout
    assert run_without_torch("report", str(run), "--no-pdf").returncode == 0


def test_the_block_blocks(run: Path) -> None:
    done = run_without_torch("sample", str(run))
    assert done.returncode != 0
    assert "torch" in done.stderr or "diffusers" in done.stderr


def test_without_a_pinned_key_verification_is_incomplete(reported: Path) -> None:
    found = verify_report(reported / "report" / "report.json", evidence=reported)
    assert found.exit_code == 7
    assert [each.name for each in found.checks if each.state.value == "not made"] == ["pinned key"]


def test_without_the_evidence_verification_is_incomplete(reported: Path) -> None:
    roster = load_roster(reported / "roster.bin", owner_key=None)
    found = verify_report(reported / "report" / "report.json", roster=roster)
    assert found.exit_code == 7


def test_a_genuine_report_that_says_fail_has_its_own_code(
    run: Path, make_audit: Callable[..., bytes]
) -> None:
    (run / "audit" / "audit.json").write_bytes(make_audit(epsilon_lower=8.9))
    write_report(run, identity=server_identity(run))
    roster = load_roster(run / "roster.bin", owner_key=None)
    found = verify_report(run / "report" / "report.json", evidence=run, roster=roster)
    assert found.exit_code == 6
    assert found.failed == ()


def test_a_report_that_shows_its_understated_epsilon_is_genuine(run: Path) -> None:
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["guarantee"]["epsilon"] /= 2
    path.write_text(json.dumps(summary))
    write_report(run, identity=server_identity(run))
    assert not (run / "report" / "dp-registry.yaml").exists()
    roster = load_roster(run / "roster.bin", owner_key=None)
    found = verify_report(run / "report" / "report.json", evidence=run, roster=roster)
    assert found.failed == ()
    assert found.exit_code == 6


def test_a_ledger_that_only_grew_since_still_verifies(run: Path) -> None:
    from phoenix_secure.evidence import Event, Ledger

    ledger = Ledger(run / "evidence" / "ledger.jsonl", identity=server_identity(run))
    ledger.append(Event.RESUMED, round=2)
    roster = load_roster(run / "roster.bin", owner_key=None)
    found = verify_report(run / "report" / "report.json", evidence=run, roster=roster)
    assert found.exit_code == 0, found.failed
    assert any("1 entries came later" in each.name for each in found.checks)


def test_a_report_from_before_an_audit_is_superseded(run: Path) -> None:
    from phoenix_secure.evidence import Event, Ledger

    ledger = Ledger(run / "evidence" / "ledger.jsonl", identity=server_identity(run))
    ledger.append(Event.AUDITED, file="audit/audit.json", sha256="00" * 32)
    roster = load_roster(run / "roster.bin", owner_key=None)
    report = run / "report" / "report.json"
    found = verify_report(report, evidence=run, roster=roster)
    assert found.exit_code == 5
    assert any("phoenix-secure report RUN" in each.detail for each in found.failed)

    # It is marked as soon as it is, without a change to what is signed, until it is built again.
    signed = report.read_bytes()
    assert mark_superseded(run) == run / "report"
    assert "superseded" in (run / "report" / "SUPERSEDED.txt").read_text()
    assert report.read_bytes() == signed
    write_report(run, identity=server_identity(run))
    assert not (run / "report" / "SUPERSEDED.txt").exists()
    assert verify_report(report, evidence=run, roster=roster).exit_code == 0
    (run / "report" / "report.json").unlink()
    assert mark_superseded(run) is None


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "roster"), (b"\x00" * 50, "roster"), (None, "owner.key.pub")]
)
def test_a_bad_roster_is_named(content: bytes | None, word: str, run: Path) -> None:
    if content is None:
        (run / "owner.key.pub").unlink()
    else:
        (run / "roster.bin").write_bytes(content)
    with pytest.raises(ConfigError, match=word):
        load_roster(run / "roster.bin", owner_key=None)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["verify", "{run}/nothing.json"], 5, "nothing.json"),
        (["verify", "{report}", "--owner-key", "zz", "--evidence", "{run}"], 2, "--owner-key"),
        (["verify", "{report}", "--owner-key", "00" * 32], 2, "--roster"),
        (["verify", "{report}", "--server-key", "12" * 32], 5, "another server key"),
        (["report", "{run}/sites"], 2, "identity.key"),
        (["report", "{run}", "--governance", "{run}/none.yaml"], 2, "none.yaml"),
        (["report", "{run}", "--profile", "gdpr"], 2, "--profile"),
        (["report", "diff", "{report}", "{run}/summary.json"], 11, "summary.json"),
        (["report", "diff", "{report}", "{report}"], 0, "promise the same"),
        (["report", "--template"], 0, "release_context"),
        (["report", "schema"], 0, '"ReportField"'),
    ],
)
def test_commands_answer_in_a_line_and_an_exit_code(
    words: list[str],
    code: int,
    text: str,
    run: Path,
) -> None:
    report = run / "report" / "report.json"
    outcome = phoenix(*(word.format(run=run, report=report) for word in words))
    said = outcome.out + outcome.err
    assert outcome.code == code, said
    assert text in " ".join(said.split())
    assert "Traceback" not in said


def test_the_commands_that_a_report_names_work(run: Path) -> None:
    report = json.loads((run / "report" / "report.json").read_text())
    named = next(each for each in report["fields"] if each["id"] == "H2.verify")["value"]
    key = (run / "owner.key.pub").read_bytes().hex()
    outcomes = []
    for command in named:
        words = command.replace("KEY", key).replace("RUN", str(run)).split()
        words[words.index("report.json")] = str(run / "report" / "report.json")
        words[words.index("roster.bin")] = str(run / "roster.bin")
        assert words[0] == "phoenix-secure"
        outcomes.append(phoenix(*words[1:]))
    assert [each.code for each in outcomes] == [7, 0], outcomes


@pytest.mark.long
def test_machines_get_json(run: Path) -> None:
    report = str(run / "report" / "report.json")
    done = run_without_torch("verify", report, "--format", "json")
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode == 7
    assert {"name", "state", "detail"} == set(answer["checks"][0])


def test_a_clause_map_of_tomorrow_is_said_to_be_unknown_and_not_taken_for_a_change(
    run: Path,
) -> None:
    from phoenix_secure.compliance.statement import sign_report
    from phoenix_secure.compliance.verification.alone import read_report

    path = run / "report" / "report.json"
    report = read_report(path).model_copy(update={"clause_map": "2099-01-a"})
    path.write_bytes(report.to_bytes())
    files = {"report.json": report.to_bytes()}
    (run / "report" / "report.dsse.json").write_bytes(
        sign_report(report, files, identity=server_identity(run))
    )
    roster = load_roster(run / "roster.bin", owner_key=None)
    found = verify_report(path, evidence=run, roster=roster)
    assert found.failed == ()
    assert found.exit_code == 7
    open_ones = {each.name for each in found.checks if each.state.value == "not made"}
    assert open_ones == {"fields and clauses", "report built again"}
