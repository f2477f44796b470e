"""Batches side by side on the CPU: several workers, each with one torch thread.

torch's own threads meet after every operator and burn their cores while they wait. Where another
process holds one of those cores, each operator lasts until the system gives it back: seconds become
minutes. Workers that share nothing but a queue meet once, at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from itertools import pairwise
from typing import TypeVar

import torch

__all__ = ["even_slices", "map_batches", "workers"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")

_POOL: ContextVar[ThreadPoolExecutor | None] = ContextVar("_POOL", default=None)


@contextlib.contextmanager
def workers(num_workers: int) -> Iterator[None]:
    """Inside, ``map_batches`` of this thread runs on ``num_workers`` threads.

    One worker or many, whatever runs inside has one torch thread. Inside another ``workers`` this
    one changes nothing.

    Raises:     ValueError for num_workers < 1.
    """
    if num_workers < 1:
        raise ValueError(f"expected num_workers >= 1, got {num_workers}")
    if _POOL.get() is not None:
        yield
        return
    before = torch.get_num_threads()
    # For this thread and, since torch hands the newest number to new threads, for the workers.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            num_workers,
            thread_name_prefix="batch",
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool:
            token = _POOL.set(pool)
            try:
                yield
            finally:
                _POOL.reset(token)
    finally:
        torch.set_num_threads(before)


def map_batches(
    function: Callable[[Batch], Result], batches: Sequence[Batch], *, device: torch.device
) -> list[Result]:
    """``function`` of every batch, in their order.

    On the CPU inside ``workers``, the batches are dealt to them in turn; elsewhere they follow one
    another in this thread. ``function`` runs under this thread's gradient mode.

    Guarantee:  ``function`` sees the same batches whatever the number of workers, each on one
                thread: results are the same bit for bit.
    Raises:     whatever ``function`` does; batches that wait are dropped then.
    """
    pool = _POOL.get()
    if pool is None or device.type != "cpu" or len(batches) < 2:
        return [function(batch) for batch in batches]
    inference, gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(batch: Batch) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradient):
            return function(batch)

    futures = [pool.submit(run, batch) for batch in batches]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def even_slices(num_rows: int, *, largest: int, start: int = 0) -> list[slice]:
    """Rows ``start`` to ``start + num_rows`` in as few slices as ``largest`` allows.

    Their lengths differ by one at most: a short last batch would go through other matrix kernels
    than the rest, and round otherwise.

    >>> even_slices(70, largest=32)
    [slice(0, 23, None), slice(23, 46, None), slice(46, 70, None)]
    """
    count = -(-num_rows // largest)
    edges = [start + num_rows * k // count for k in range(count + 1)] if count else []
    return [slice(low, high) for low, high in pairwise(edges)]
