"""Memory that was freed stays with the process, for the next step to take.

glibc gives large blocks back to the system as soon as they are freed. A training step frees all of
its intermediate results, and the next one asks for the same again: the system clears and maps every
page anew, which took a tenth of the processor time of a step of the ``tiny`` preset
(``benchmarks/freed_memory.py``). What the process holds at its peak stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

# Parameters of mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT = 1 << 30
# Whoever sets one of these has chosen.
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep blocks of up to 1 GiB for this process; whether that was possible.

    Guarantee:  changes no result, and nothing where the environment sets glibc's thresholds or the
                system has another allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
