"""Commands on a pool of worker processes, each on cores or a GPU of its own.

A command is a process, so that a crash, a kill or an out-of-memory end of one point leaves the
others alone.
"""

from __future__ import annotations

import functools
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phoenix_secure.processes import die_with_parent

__all__ = ["Slot", "Stopped", "WorkerPool", "available_cores", "slots_of"]


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The sweep is being stopped; a command was ended before its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The place of one worker: some cores and, where there are GPUs, one of them."""

    cores: frozenset[int]
    gpu: int | None


def slots_of(*, num_workers: int, num_gpus: int, cores: Sequence[int]) -> list[Slot]:
    """Deal cores and GPUs to workers in turn.

    Guarantee:  every slot has a core; with no more workers than cores, no core is in two slots.

    >>> [sorted(slot.cores) for slot in slots_of(num_workers=2, num_gpus=0, cores=range(4))]
    [[0, 2], [1, 3]]
    """
    if num_workers < 1 or not cores:
        raise ValueError("expected num_workers >= 1 and at least one core")
    return [
        Slot(
            cores=frozenset(cores[number::num_workers]) or frozenset([cores[number % len(cores)]]),
            gpu=number % num_gpus if num_gpus else None,
        )
        for number in range(num_workers)
    ]


def available_cores() -> list[int]:
    """The cores that this process may use (where the system does not say: as many as there are)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class WorkerPool:
    """Runs jobs, each on the next free slot."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._size = len(slots)
        self._stopping = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def map(self, jobs: Sequence[Callable[[Slot], object]]) -> None:
        """Run every job; on the first exception (Ctrl-C too) end all commands, then raise it."""
        with ThreadPoolExecutor(self._size, thread_name_prefix="point") as executor:
            futures = [executor.submit(self._on_slot, job) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop()
                executor.shutdown(wait=True, cancel_futures=True)
                raise

    def run(self, command: Sequence[str], *, slot: Slot, log: Path) -> int:
        """Run ``command`` to its end, its output appended to ``log``; its exit code.

        Raises:     Stopped when the pool is being stopped.
        """
        environment = dict(os.environ)
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot.gpu)
        with log.open("ab") as output, self._process(command, slot, environment, output) as process:
            code = process.wait()
        if self._stopping.is_set():
            raise Stopped
        return code

    def stop(self) -> None:
        """Ask every running command to end; runs keep what they have done."""
        self._stopping.set()
        with self._lock:
            for process in self._running:
                process.terminate()

    def _on_slot(self, job: Callable[[Slot], object]) -> None:
        slot = self._free.get()
        try:
            if not self._stopping.is_set():
                job(slot)
        except Stopped:
            pass
        finally:
            self._free.put(slot)

    @contextmanager
    def _process(
        self, command: Sequence[str], slot: Slot, environment: dict[str, str], output: BinaryIO
    ) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._stopping.is_set():
                raise Stopped
            process = subprocess.Popen(  # noqa: S603 - a fixed list of arguments
                list(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches us alone; we then end the children in order.
                start_new_session=True,
                preexec_fn=functools.partial(_settle, slot.cores),
            )
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)


def _settle(cores: frozenset[int]) -> None:
    """Bind the child to its cores, and end it with its parent."""
    die_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
