"""What a benchmark says of the machine: its processor, its speed in one figure, its memory.

Machines differ threefold, and a busy one differs from itself. So a benchmark divides by something
that ran beside it; where there is nothing to divide by, it divides by ``calibration``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from protocol.masks import add_masks

__all__ = ["calibration", "cpu_name", "cpu_seconds", "high_water_mark", "print_row"]


def calibration(*, repetitions: int = 3) -> float:
    """CPU seconds of a fixed mix: hashing, AES, passes over memory, convolutions. The best of few.

    One thread; what it does must never change, or rows of two versions cannot be compared.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(cpu_seconds(_mix) for _ in range(repetitions))
    finally:
        torch.set_num_threads(before)


def _mix() -> None:
    words = np.zeros(1 << 22, np.uint32)
    hashlib.sha256(words.data).digest()
    add_masks(words, [(bytes([number]) * 32, 1) for number in range(16)])
    values = words.astype(np.float64)
    for _ in range(8):
        values *= 0.5
    weight = torch.full((32, 32, 3, 3), 0.01, requires_grad=True)
    image = torch.ones(16, 32, 28, 28)
    for _ in range(8):
        torch.nn.functional.conv2d(image, weight, padding=1).square().sum().backward()


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time of one call: what a busy machine leaves unchanged, but for its caches."""
    start = time.process_time()
    run()
    return time.process_time() - start


def high_water_mark() -> int:
    """Peak resident bytes of this process (Linux; unlike ru_maxrss not inherited over exec)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("expected VmHWM in /proc/self/status: memory is measured on Linux only")


def cpu_name() -> str:
    """The processor's name and the number of cores that this process may use."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else 'unknown'}, {len(os.sched_getaffinity(0))} cores"


def print_row(row: Mapping[str, object], *, as_json: bool) -> None:
    """One line for each figure, or all as one JSON object."""
    if as_json:
        print(json.dumps(row))
        return
    width = max(map(len, row)) + 1
    for name, value in row.items():
        print(
            f"{name:{width}} {value:.4g}" if isinstance(value, float) else f"{name:{width}} {value}"
        )
