"""The benchmark of secure rounds runs, and its figures are those of whole rounds."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "federation.py"
STAGES = ("announce", "share", "mask", "check", "unmask", "result")


def test_small_measurement_has_every_stage_and_three_bytes_a_parameter() -> None:
    done = script(BENCHMARK, "--json", "--d", 50_000, "--sites", 5, "--repetitions", 1)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["rows"]
    assert all(row[stage] > 0 for stage in STAGES)
    assert sum(row[stage] for stage in STAGES) <= row["secure_s"]
    assert 3 < row["bytes_up_per_parameter"] < 3.1
    assert 4 < row["plain_bytes_up_per_parameter"] < 4.1
    # The sum of a round comes down in place of a model.
    assert 3 < row["bytes_down_per_parameter"] < 3.2
    assert 4 < row["plain_bytes_down_per_parameter"] < 4.1


def test_fewer_than_five_sites_are_refused() -> None:
    done = script(BENCHMARK, "--sites", 4)
    assert done.code == 2
    assert "--sites >= 5" in done.err
