"""From `run` to a verified report in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import phoenix

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "short", "proven"),
    [
        ("demo", ["release.fit_steps=2"], "(7.992, 3e-05)-differential privacy per record"),
        ("demo_plain", ["federation.rounds=2", "training.local_steps=2"], "the server saw sums"),
    ],
)
def test_a_demo_ends_with_an_audit_and_a_signed_report_that_verifies(
    tmp_path: Path, name: str, short: list[str], proven: str
) -> None:
    run = tmp_path / "run"
    settings = [*short, "evaluation.num_images=0"]
    done = phoenix("run", str(CONFIGS / f"{name}.yaml"), *settings, "--run-dir", str(run))
    assert done.code == 0, done.err
    assert "on this machine" in done.out  # the estimate comes first
    closing = done.out.partition("\nopen ")[2]
    assert "report.html" in closing
    assert any(proven in line for line in closing.splitlines() if line.startswith("proven"))
    assert "\nnot proven" in closing
    report = json.loads((run / "report" / "report.json").read_text())
    fields = {each["id"]: each["value"] for each in report["fields"]}
    assert fields["E4.verdict"] is not None
    assert fields["E7.conditions"]["in_the_ledger"] is True
    words = ["--roster", str(run / "roster.bin"), "--evidence", str(run)]
    checked = phoenix("verify", str(run / "report" / "report.json"), *words)
    assert checked.code == 0, checked.out


@pytest.mark.slow
def test_a_run_reports_only_when_asked(tmp_path: Path) -> None:
    words = [
        "data.name=digits",
        "partition.num_sites=5",
        "model.block_channels=[8,8]",
        "model.attention=[false,false]",
        "model.mid_attention=false",
        "diffusion.num_timesteps=20",
        "training.local_steps=1",
        "federation.rounds=1",
        "evaluation.num_images=0",
        "sampling.num_steps=1",
        "output.num_samples=1",
        "audit.profile=none",
    ]
    plain = str(CONFIGS / "demo_plain.yaml")
    done = phoenix("run", plain, *words, "--run-dir", str(tmp_path / "one"))
    assert done.code == 0, done.err
    assert (tmp_path / "one" / "report" / "report.dsse.json").exists()
    words.append("output.report=false")
    done = phoenix("run", plain, *words, "--run-dir", str(tmp_path / "two"))
    assert done.code == 0, done.err
    assert not (tmp_path / "two" / "report").exists()
