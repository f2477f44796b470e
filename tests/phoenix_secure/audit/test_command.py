"""The command itself: exit codes, JSON for machines, one line for mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.audit.report import AuditReport


def audit(*arguments: str) -> tuple[int, str, str]:
    outcome = phoenix("audit", *arguments)
    return outcome.code, outcome.out, outcome.err


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))


@pytest.mark.long
def test_a_leak_leaves_with_3_and_json_alone_on_stdout(
    overfitted_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, _ = audit(
        *(str(overfitted_run), "--profile", "smoke", "--attack", "sima", "--attack", "pia"),
        *("--fpr", "0.05", "--out", str(out), "--json"),
    )
    assert code == 3
    report = AuditReport.model_validate_json(text)
    assert report.plan.fprs == (0.05,)
    assert [one.name for one in report.attacks] == ["sima", "pia"]
    assert json.loads((out / "audit.json").read_text()) == json.loads(text)


@pytest.mark.long
def test_the_table_names_the_verdict_and_ten_images_are_inconclusive(
    seen_once_run: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    import numpy as np

    with np.load(pictures["out"]) as archive:
        np.savez(tmp_path / "few.npz", images=archive["images"][:20])
    code, text, _ = audit(
        *(str(seen_once_run), "--members", str(pictures["in"])),
        *("--non-members", str(tmp_path / "few.npz"), "--profile", "smoke"),
        *("--attack", "loss", "--out", str(tmp_path / "out")),
    )
    assert code == 4
    assert "inconclusive" in text
    assert "n. e." in text


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    code, _, errors = audit(str(tmp_path / "absent"))
    assert code == 2
    assert errors.count("\n") == 1
    assert "nothing at" in errors


def test_the_module_is_the_command_and_exports_its_schema() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phoenix_secure.audit", "--schema"],
        capture_output=True,
        text=True,
        check=True,
    )
    schema = json.loads(done.stdout)
    assert schema == AuditReport.model_json_schema()
    assert "verdict" in schema["properties"]


@pytest.mark.long
def test_a_gate_decides_the_exit_code_and_an_earlier_audit_is_compared_with(
    overfitted_run: Path, tmp_path: Path
) -> None:
    """The same audit twice: no difference; and what cannot be compared is refused by name."""
    (tmp_path / "gate.yaml").write_text("allow_leak: true\nmax_auc: 1.0\n")
    common = (str(overfitted_run), "--profile", "smoke", "--attack", "loss")
    first, second = tmp_path / "first", tmp_path / "second"
    code, _, said = audit(
        *(*common, "--out", str(first), "--edition", "confidential"),
        *("--gate", str(tmp_path / "gate.yaml")),
    )
    assert code == 0
    assert "gate: passed" in said

    (tmp_path / "gate.yaml").write_text("max_auc: 0.5\n")
    code, text, said = audit(
        *(*common, "--out", str(second), "--against", str(first), "--json"),
        *("--gate", str(tmp_path / "gate.yaml")),
    )
    assert code == 5
    assert "gate: verdict: leak found" in said
    assert "gate: max_auc: loss has" in said
    report = AuditReport.model_validate_json(text)
    assert report.compared is not None
    (row,) = report.compared.attacks
    assert (row.change.value, row.change.low, row.change.high) == (0.0, 0.0, 0.0)
    assert report.advice
    assert "## Against the audit in first" in (second / "audit.md").read_text()
    assert not (second / "scores.npz").exists()  # public

    for options, expected, named in (
        (("--against", str(second)), 10, "confidential"),
        (("--against", str(first), "--seed", "1"), 2, "other images"),
        (("--against", str(tmp_path)), 10, "no audit"),
        (("--against", str(first), "--out", str(first)), 2, "--out"),
        (("--gate", str(tmp_path / "none.yaml")), 2, "none.yaml"),
    ):
        out = () if "--out" in options else ("--out", str(tmp_path / "third"))
        code, _, said = audit(*common, *out, *options)
        assert code == expected, options
        assert named in said
