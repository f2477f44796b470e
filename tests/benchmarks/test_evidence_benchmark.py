"""The benchmark of evidence runs, and counts the entries of whole rounds."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import script

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evidence.py"


def test_ten_rounds_make_ten_rows_of_four_entries_each(tmp_path: Path) -> None:
    done = script(BENCHMARK, "--rounds", 10, "--sites", 3, "--dir", tmp_path, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [row["entries"] for row in found["rows"]] == [1 + 4 * each for each in range(1, 11)]
    assert all(row["cpu_s"] > 0 for row in found["rows"])
    assert found["disk_fsync_s_per_1000_rounds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_fewer_than_ten_rounds_are_refused() -> None:
    done = script(BENCHMARK, "--rounds", 9)
    assert done.code == 2
    assert "--rounds >= 10" in done.err
