"""Batches on several workers: the same bits on any number of them, and one torch thread each."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.workers import even_slices, map_batches, workers

CPU = torch.device("cpu")


def test_results_keep_the_order_and_every_worker_has_one_thread() -> None:
    torch.set_num_threads(2)
    meeting = threading.Barrier(3, timeout=30)
    threads = []

    def square(number: int) -> int:
        meeting.wait()  # passes only where three batches really run at once
        threads.append((threading.get_ident(), torch.get_num_threads()))
        return number * number

    try:
        with workers(3):
            assert torch.get_num_threads() == 1
            assert map_batches(square, range(9), device=CPU) == [k * k for k in range(9)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert len({ident for ident, _ in threads}) == 3
    assert threading.get_ident() not in {ident for ident, _ in threads}
    assert {number for _, number in threads} == {1}


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_workers_take_over_the_gradient_mode(mode: type) -> None:
    def modes(_: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with workers(2), mode():
        assert set(map_batches(modes, range(4), device=CPU)) == {modes(0)}


def test_first_error_reaches_the_caller_and_waiting_batches_are_dropped() -> None:
    done = []

    def fail(number: int) -> None:
        if number == 0:
            raise ValueError("batch 0")
        time.sleep(0.001)  # longer than to drop the others
        done.append(number)

    with pytest.raises(ValueError, match="batch 0"), workers(1):
        map_batches(fail, range(1000), device=CPU)
    assert len(done) < 999


def test_outside_workers_or_on_another_device_this_thread_does_all() -> None:
    here = threading.get_ident()

    def who(_: int) -> int:
        return threading.get_ident()

    assert set(map_batches(who, range(4), device=CPU)) == {here}
    with workers(2):
        assert set(map_batches(who, range(4), device=torch.device("meta"))) == {here}
        with workers(5):  # the outer ones stay
            assert here not in map_batches(who, range(4), device=CPU)
        assert here not in map_batches(who, range(4), device=CPU)
    with pytest.raises(ValueError, match="num_workers"), workers(0):
        pass


def test_a_batch_that_maps_batches_itself_does_not_wait_for_its_own_pool() -> None:
    def inner(number: int) -> int:
        return sum(map_batches(abs, range(number), device=CPU))

    with workers(1):
        assert map_batches(inner, [2, 3, 4], device=CPU) == [1, 3, 6]


@given(num_rows=st.integers(0, 700), largest=st.integers(1, 200), start=st.integers(0, 1000))
def test_slices_cover_all_rows_evenly(num_rows: int, largest: int, start: int) -> None:
    slices = even_slices(num_rows, largest=largest, start=start)
    rows = [row for part in slices for row in range(part.start, part.stop)]
    assert rows == list(range(start, start + num_rows))
    sizes = {part.stop - part.start for part in slices}
    assert not sizes or (min(sizes) >= 1 and max(sizes) <= largest)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(slices) == -(-num_rows // largest)
