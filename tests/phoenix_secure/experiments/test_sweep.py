"""Whole sweeps by the command line, with real runs, real failures and real kills."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phoenix_secure.cli.app import app
from phoenix_secure.errors import ConfigError


def sweep(file: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "phoenix_secure", "sweep", str(file), "--out", str(out), *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A test run in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def figures(out: Path) -> list[dict[str, str]]:
    """The table without what a clock decides, and without what goes down to sites: those of a run
    that was killed behind a sum get it once more, which is traffic indeed."""
    rows = list(csv.DictReader((out / "results.csv").open()))
    left_out = ("training_seconds", "reason", "bytes_down")
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


@pytest.mark.slow
def test_killed_sweep_goes_on_to_the_same_table_and_a_failed_point_stops_nobody(
    sweep_file: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = sweep(sweep_file, whole)
    output = process.communicate(timeout=500)[0].decode()
    assert process.returncode == 13, output  # one point failed, and a script must notice
    rows = figures(whole)
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    assert "run ended with code 13: error: round 2" in (whole / "results.csv").read_text()

    for moment, how in ((2, signal.SIGKILL), (4, signal.SIGINT)):
        process = sweep(sweep_file, cut, "--workers", "1")
        metrics = cut / "points" / "strategy-fedavg-seed-0" / "run" / "metrics.jsonl"
        while process.poll() is None:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= moment:
                process.send_signal(how)
                process.wait(60)
                break
            time.sleep(0.02)
        assert process.returncode != 0
    time.sleep(1)  # the killed sweep's child ends with it, a moment later
    process = sweep(sweep_file, cut)
    output = process.communicate(timeout=500)[0].decode()
    assert process.returncode == 13, output
    assert figures(cut) == rows

    # Once more: nothing is run again, and the report can be rebuilt from the folder alone.
    began = {path: path.stat().st_mtime_ns for path in cut.rglob("summary.json")}
    rebuilt = CliRunner().invoke(app, ["sweep", "report", str(cut), "--format", "json"])
    assert rebuilt.exit_code == 0
    assert len(json.loads(rebuilt.stdout)["rows"]) == 3
    assert {path: path.stat().st_mtime_ns for path in cut.rglob("summary.json")} == began


@pytest.mark.long
def test_dry_run_lists_points_and_writes_nothing(sweep_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", str(sweep_file), "--out", str(out), "--dry-run", "--format", "json"]
    listed = CliRunner().invoke(app, arguments)
    assert listed.exit_code == 0, listed.output
    plan = json.loads(listed.stdout)
    assert [entry["point"] for entry in plan["points"]] == [
        "strategy-fedavg-seed-0",
        "strategy-fedavg-seed-1",
        "point-diverges",
    ]
    assert plan["points"][0]["plan"]["bytes_up_per_round"] > 1000
    assert not out.exists()


RELEASES = """\
settings:
  data.name: digits
  partition.scheme: iid
  partition.num_sites: 5
  federation.rounds: 1
  secure_aggregation.word_bits: 32
  privacy: {unit: record, trust: sum, epsilon: 8}
  release: {features: hogpix, num_features: 64, max_images: 512, fit_steps: 20}
  evaluation.num_images: 0
  device: cpu
axes:
  privacy.epsilon: [1, 8]
"""


@pytest.mark.long
def test_dry_run_over_releases_adds_up_their_fits(tmp_path: Path) -> None:
    (tmp_path / "releases.yaml").write_text(RELEASES)
    arguments = ["sweep", str(tmp_path / "releases.yaml"), "--dry-run"]
    listed = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert listed.exit_code == 0, listed.output
    found = json.loads(listed.stdout)
    times = [entry["plan"]["estimated_total_seconds"] for entry in found["points"]]
    assert [entry["point"] for entry in found["points"]] == ["epsilon-1", "epsilon-8"]
    assert all(
        entry["plan"]["estimated_total_seconds"] >= entry["plan"]["estimated_fit_seconds"]
        for entry in found["points"]
    )
    assert found["estimated_total_seconds"] == sum(times)
    assert "one after the other" in CliRunner().invoke(app, arguments).stdout


def test_downstream_without_classes_is_refused_before_the_first_run(
    sweep_file: Path, tmp_path: Path
) -> None:
    text = sweep_file.read_text().replace("class_conditional: true", "class_conditional: false")
    sweep_file.write_text(text)
    found = CliRunner().invoke(app, ["sweep", str(sweep_file), "--out", str(tmp_path / "out")])
    assert isinstance(found.exception, ConfigError)
    assert "model.class_conditional=true" in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_report_of_something_else_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["sweep", "report", str(tmp_path)])
    assert "sweep.yaml is missing" in str(found.exception)
