"""Costs add up, and the stopwatch reads the clock it is given."""

from __future__ import annotations

import time

import pytest

from phoenix_secure.metrics.cost import Cost, Stopwatch


def test_costs_add_field_by_field() -> None:
    first = Cost(seconds=1.5, num_images=10, bytes_up=100, bytes_down=7)
    second = Cost(seconds=0.5, num_images=30, bytes_up=1, bytes_down=2)
    assert first + second == Cost(seconds=2.0, num_images=40, bytes_up=101, bytes_down=9)
    assert (first + second).images_per_second == 20


def test_no_time_means_no_throughput() -> None:
    assert Cost(seconds=0, num_images=5).images_per_second is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", -1.0), ("seconds", float("nan")), ("seconds", float("inf")), ("bytes_up", -1)],
)
def test_impossible_figures_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected {name} >= 0"):
        Cost(**{"seconds": 1.0, name: value})


def test_stopwatch_adds_blocks_and_skips_what_lies_between() -> None:
    ticks = iter([0.0, 2.0, 100.0, 101.0, 101.5])
    stopwatch = Stopwatch(clock=lambda: next(ticks))
    with stopwatch:
        pass
    assert stopwatch.seconds == 2.0
    with stopwatch:
        assert stopwatch.seconds == 3.0  # still running: read at 101
    assert stopwatch.seconds == 3.5


def test_stopwatch_stops_when_its_block_fails() -> None:
    ticks = iter([0.0, 1.0])
    stopwatch = Stopwatch(clock=lambda: next(ticks))
    with pytest.raises(KeyError), stopwatch:
        raise KeyError
    assert stopwatch.seconds == 1.0


def test_stopwatch_refuses_to_start_twice() -> None:
    stopwatch = Stopwatch()
    with stopwatch, pytest.raises(ValueError, match="runs already"):
        stopwatch.__enter__()


def test_stopwatch_measures_real_time() -> None:
    with Stopwatch() as stopwatch:
        time.sleep(0.02)
    assert 0.02 <= stopwatch.seconds < 5
