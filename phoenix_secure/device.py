"""Which processors a run uses."""

from __future__ import annotations

import os

import torch

from phoenix_secure.errors import ConfigError

__all__ = ["num_cores", "pick_devices"]


def pick_devices(name: str) -> list[torch.device]:
    """``auto`` (every CUDA device, else the CPU), ``cpu``, ``cuda`` (every one) or ``cuda:N``.

    Raises:     ConfigError when the device named is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return [torch.device("cpu")]
    if name in ("auto", "cuda") and count:
        return [torch.device("cuda", index) for index in range(count)]
    device = torch.device(name)
    if device.index is None or device.index >= count:
        raise ConfigError(f"device = {name!r} is not there ({count} CUDA devices): use auto or cpu")
    return [device]


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
