"""The benchmark of private steps runs, and compares each way with the plain step beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "dp.py"


@pytest.mark.slow
def test_every_way_has_a_ratio_to_the_plain_step() -> None:
    options = ["--presets", "tiny-s2d", "--batch-size", 4, "--chunk", 4, "--turns", 1, "--json"]
    done = script(BENCHMARK, *options)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["aims"] == {"time_ratio": 1.3, "memory_ratio": 2.0}
    assert [row["way"] for row in found["rows"]] == ["plain", "layers", "vmap"]
    assert found["rows"][0]["time_ratio"] == found["rows"][0]["memory_ratio"] == 1
    assert all(row["cpu_s"] > 0 and row["mib"] > 0 for row in found["rows"])
