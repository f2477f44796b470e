"""The benchmark of the demo counts processor time, and asks for its judge before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import phoenix, script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "demo.py"


def test_without_the_judges_images_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    done = script(BENCHMARK, "--run-dir", tmp_path / "run")

    assert done.code == 10
    assert "phoenix-secure data fetch mnist" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_short_demo_gives_one_row(tmp_path: Path) -> None:
    fetched = phoenix("data", "fetch", "mnist")  # the judge's images; at once where they are here
    assert fetched.code == 0, fetched.err
    run = tmp_path / "run"
    short = ["release.fit_steps=2", "--calibrate", 32, "--run-dir", run, "--json"]
    done = script(BENCHMARK, "demo", *short)
    assert done.code == 0, done.err
    row: dict[str, Any] = json.loads(done.out)

    assert row["cpu_seconds"] > 0
    a_image = sum(row["tiny_ms_per_image"]) / 2000
    assert row["cost_in_images"] == pytest.approx(row["cpu_seconds"] / a_image, rel=0.01)
    assert sum(row["classes"]) == 1000
    assert row["secure_aggregation"] == "on"
    assert row["signed_report"]
