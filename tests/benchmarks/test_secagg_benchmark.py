"""The secure-aggregation benchmark runs and reports every figure that is promised."""

import json
from pathlib import Path

import pytest

from command_line import script

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "secagg.py"


@pytest.mark.long
def test_one_run_reports_limits_parts_and_ratios():
    done = script(SCRIPT, "--d", "20000", "--k", "8", "--repetitions", "1", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    for name in (
        "aes_limit_gb_per_s",
        "mask_1t_s",
        "mask_2t_s",
        "client_1t_s",
        "unmask_1t_s",
        "shares_s",
        "recover_1t_s",
        "mask_fraction_of_limit",
        "mask_speedup_two_threads",
        "overall_ratio_to_flower_1t",
        "recovery_ratio_to_flower_2t",
        "phoenix_peak_copies",
        "load_average_1min",
    ):
        assert found[name] > 0
    assert found["bytes_per_parameter"] == 3
    assert found["flower_bytes_per_parameter"] > 8


@pytest.mark.parametrize("bad", [["--d", "0"], ["--k", "3"], ["--repetitions", "0"], ["--d", "x"]])
def test_meaningless_arguments_are_refused_in_one_line(bad):
    done = script(SCRIPT, *bad)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("secagg.py: error:")
