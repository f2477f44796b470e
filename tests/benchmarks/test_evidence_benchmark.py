"""The benchmark of evidence runs, and counts the entries of whole rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evidence.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True
    )


def test_ten_rounds_make_ten_rows_of_four_entries_each(tmp_path: Path) -> None:
    done = run("--rounds", "10", "--sites", "3", "--dir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["entries"] for row in found["rows"]] == [1 + 4 * each for each in range(1, 11)]
    assert all(row["cpu_s"] > 0 for row in found["rows"])
    assert found["disk_fsync_s_per_1000_rounds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_fewer_than_ten_rounds_are_refused() -> None:
    done = run("--rounds", "9")
    assert done.returncode == 2
    assert "--rounds >= 10" in done.stderr
