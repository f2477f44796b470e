"""The page of ratios: which aims are met, rows that can be followed, and the newest on the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_modules import benchmark_module


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    with benchmark_module("page") as found:
        yield found


def row(page: ModuleType, **changes: str):
    fields = {
        "version": "0.1.0/abc",
        "benchmark": "large-round/cpu",
        "ratio": "0.5",
        "aim": "<= 0.7",
        "calibration": "1.000",
        "date": "2026-01-01",
    }
    return page.Row(**(fields | changes))


@pytest.mark.parametrize(
    ("ratio", "aim", "is_met"),
    [
        ("0.7", "<= 0.7", True),
        ("0.701", "<= 0.7", False),
        ("10", ">= 10", True),
        ("9.99", ">= 10", False),
        ("nan", "<= 1", False),
        ("nan", ">= 1", False),
    ],
)
def test_an_aim_is_met_up_to_its_bound_and_never_by_nan(
    page: ModuleType, ratio: str, aim: str, is_met: bool
) -> None:
    assert row(page, ratio=ratio, aim=aim).is_met is is_met


def test_rows_are_read_as_they_were_written_and_a_missing_file_is_empty(
    page: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    assert page.read_rows(path) == []
    rows = [row(page), row(page, version="0.2.0/def", ratio="0.9")]
    page.write_rows(rows, path)
    assert page.read_rows(path) == rows
    header = path.read_text().splitlines()[0]
    assert header == "version,benchmark,ratio,aim,calibration,date"


def test_the_page_has_the_newest_row_of_each_and_says_what_is_not_met(page: ModuleType) -> None:
    rows = [
        row(page, version="old"),
        row(page, benchmark="reading/second-start", ratio="0.5", aim="<= 0.67"),
        row(page, version="new", ratio="0.9"),
    ]
    text = page.page(rows)
    assert "| old |" not in text
    (line,) = [each for each in text.splitlines() if each.startswith("| large-round/cpu |")]
    assert "0.9 | <= 0.7 | **not met**" in line
    assert page.meaning("large-round/cpu") in line
    (line,) = [each for each in text.splitlines() if each.startswith("| reading/")]
    assert "| met |" in line


def test_what_benchmarks_print_becomes_ratios_with_a_meaning(page: ModuleType) -> None:
    printed = {
        "private-step": {
            "rows": [
                {"way": "plain", "preset": "tiny", "time_ratio": 1, "memory_ratio": 1},
                {"way": "layers", "preset": "tiny", "time_ratio": 1.4, "memory_ratio": 1.1},
            ]
        },
        "large-round": {"cpu_per_million_over_calibration": 0.6, "peak_vectors": 7.0},
        "secure-sum": {
            "mask_fraction_of_limit": 0.85,
            "overall_ratio_to_flower_1t": 8.0,
            "recovery_ratio_to_flower_1t": 7.9,
            "bytes_per_parameter": 3.0,
            "flower_bytes_per_parameter": 8.0,
        },
        "training": {"rows": [{"way": "as run", "preset": "tiny", "ratio_to_plain": 1.2}]},
        "sampling": {"time_ratio": 0.3, "frechet_ratio": 1.0},
        "freed-memory": {"tiny": 1.1},
        "time-to-quality": {"shares": {"mnist/rate 0.001": 0.25}},
        "evidence": {"last_over_first": 1.0},
        "reading": {"first": {"cpu_s": 4.0}, "second": {"cpu_s": 2.0}},
    }
    found = {}
    for benchmark in page.BENCHMARKS:
        for ratio in benchmark.ratios(printed[benchmark.name]):
            assert page.meaning(ratio.name), ratio.name
            found[ratio.name] = (ratio.value, ratio.bound)
    assert found["private-step/tiny/time"] == (1.4, "<= 1.3")
    assert found["private-step/tiny/memory"] == (1.1, "<= 2")
    assert found["secure-sum/flower"] == (8.0, ">= 10")
    assert found["secure-sum/bytes"] == (0.375, "<= 0.5")
    assert found["reading/second-start"] == (0.5, "<= 0.67")
    assert found["sampling/time"] == (0.3, "<= 0.333")
    assert found["time-to-quality/mnist/rate 0.001"] == (0.25, "<= 0.333")
    assert len(found) == 15


def test_the_page_in_the_documentation_is_that_of_its_rows(page: ModuleType) -> None:
    """Whoever adds rows by hand forgets the page."""
    assert page.ROWS.exists()
    assert page.PAGE.read_text() == page.page(page.read_rows(page.ROWS))


@pytest.mark.long
def test_a_benchmark_is_measured_in_a_process_of_its_own(page: ModuleType) -> None:
    (evidence,) = [each for each in page.BENCHMARKS if each.name == "evidence"]
    short = dataclasses.replace(evidence, arguments=("--rounds", "20", "--sites", "2"))
    (ratio,) = page.measure(short)
    assert ratio.name == "evidence/growth"
    assert ratio.value > 0
