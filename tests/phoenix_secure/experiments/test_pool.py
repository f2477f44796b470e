"""Worker processes: cores, GPUs, failures, stopping."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.experiments.pool import Slot, Stopped, WorkerPool, available_cores, slots_of


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 4))
def test_every_worker_has_a_core_and_cores_are_dealt_out(
    num_workers: int, num_cores: int, num_gpus: int
) -> None:
    slots = slots_of(num_workers=num_workers, num_gpus=num_gpus, cores=range(num_cores))
    assert all(slot.cores for slot in slots)
    dealt = sorted(core for slot in slots for core in slot.cores)
    if num_workers <= num_cores:
        assert dealt == list(range(num_cores))
    gpus = [slot.gpu for slot in slots]
    assert all((gpu is None) == (num_gpus == 0) for gpu in gpus)
    if num_gpus:
        counts = [gpus.count(gpu) for gpu in range(num_gpus)]
        assert max(counts) - min(counts) <= 1


def test_command_runs_on_its_cores_and_its_output_is_kept(tmp_path: Path) -> None:
    core = available_cores()[-1]
    slot = Slot(cores=frozenset([core]), gpu=3)
    code = "import os; print(os.sched_getaffinity(0), os.environ['CUDA_VISIBLE_DEVICES'])"
    pool = WorkerPool([slot])
    assert pool.run([sys.executable, "-c", code], slot=slot, log=tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == f"{{{core}}} 3\n"


def test_stop_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    slots = [Slot(cores=frozenset(available_cores()), gpu=None)]
    pool = WorkerPool(slots)
    started: list[int] = []

    def job(number: int) -> None:
        started.append(number)
        pool.run(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            slot=slots[0],
            log=tmp_path / "log",
        )
        started.append(-1)  # never: run raises

    begun = time.monotonic()
    threading.Timer(1.0, pool.stop).start()
    pool.map([lambda slot, n=n: job(n) for n in range(3)])  # type: ignore[misc]
    assert started == [0]
    assert time.monotonic() - begun < 20
    with pytest.raises(Stopped):
        pool.run(["true"], slot=slots[0], log=tmp_path / "log")


def test_error_in_one_job_ends_the_others(tmp_path: Path) -> None:
    slots = slots_of(num_workers=2, num_gpus=0, cores=available_cores())
    pool = WorkerPool(slots)

    def long(slot: Slot) -> None:
        pool.run(
            [sys.executable, "-c", "import time; time.sleep(60)"], slot=slot, log=tmp_path / "log"
        )

    def wrong(slot: Slot) -> None:
        time.sleep(0.5)
        raise OSError("disk full")

    begun = time.monotonic()
    with pytest.raises(OSError, match="disk full"):
        pool.map([wrong, long])
    assert time.monotonic() - begun < 20


def test_commands_die_with_the_sweep(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from phoenix_secure.experiments.pool import *\n"
        "slot = Slot(cores=frozenset(available_cores()), gpu=None)\n"
        "child = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "WorkerPool([slot]).run([sys.executable, '-c', child], slot=slot, log=log)\n"
    )
    import signal
    import subprocess

    parent = subprocess.Popen([sys.executable, "-c", program])
    log = tmp_path / "log"
    while not (log.exists() and log.read_text().strip()):
        assert parent.poll() is None
        time.sleep(0.05)
    child = int(log.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived the sweep")
