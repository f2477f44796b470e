"""Freed memory is taken again without a page fault, where nobody chose otherwise."""

import os
import subprocess
import sys

import pytest

# 64 MB are written and freed ten times; page faults of the last nine are printed.
PROGRAM = """
import resource, sys
import numpy as np
from phoenix_secure.memory import keep_freed_memory
print(keep_freed_memory() if "keep" in sys.argv else None)
def touch():
    np.ones(8_000_000)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*words: str, **environment: str) -> tuple[str, int]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    said, count = ran.stdout.split()
    return said, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these thresholds")
def test_freed_memory_is_kept() -> None:
    _, without = page_faults()
    said, kept = page_faults("keep")

    assert said == "True"
    assert kept < without / 20


def test_settings_of_the_environment_stand() -> None:
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
