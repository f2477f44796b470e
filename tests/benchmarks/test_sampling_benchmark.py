"""The benchmark of sampling runs: both loops sample from one network, and both are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "sampling.py"


@pytest.mark.slow
def test_fifteen_steps_of_the_solver_take_less_than_fifty_of_ddim() -> None:
    options = ["--images", 32, "--steps", 5, "--repetitions", 1, "--features", "pixels", "--json"]
    done = script(BENCHMARK, *options)
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert row["time_ratio"] < 0.7
    assert len(row["frechet"]) == len(row["ddim_frechet"]) == 1
    assert row["frechet_ratio"] > 0


def test_too_few_images_are_refused() -> None:
    done = script(BENCHMARK, "--images", 3)
    assert done.code == 2
    assert "--images >= 16" in done.err
