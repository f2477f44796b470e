"""The benchmark of large models runs: whole rounds, and two checkouts that agree on every bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "large_round.py"


@pytest.mark.long
def test_one_checkout_against_itself_computes_the_same_model() -> None:
    here = BENCHMARK.parents[1]
    done = script(BENCHMARK, "--json", "--d", 20_000, "--rounds", 1, "--against", here)
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert row["cpu_s"] > 0
    assert row["ratio"] == row["cpu_s"] / row["other_cpu_s"]
    assert set(row["stages_s"]) >= {"announce", "mask", "result"}
    assert row["cpu_per_million_over_calibration"] > 0


def test_fewer_than_five_sites_are_refused() -> None:
    done = script(BENCHMARK, "--sites", 4)
    assert done.code == 2
    assert "--sites >= 5" in done.err
