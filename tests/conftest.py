"""What every test shares: one thread a process, where its files lie, and how many examples
Hypothesis tries.

One thread: parallel test processes share the cores, and so do the processes that they start.
No deadline: how long an example takes says nothing on a machine that others use as well.
Files lie in memory where there is room: runs sync tens of thousands of small files, and a disk
takes milliseconds for each. ``PYTEST_DEBUG_TEMPROOT`` names another place.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from chromium import find_browser

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a test imports numpy or torch

MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30  # noqa: S108 - pytest makes a folder of its own


def has_room(folder: Path) -> bool:
    """Whether tests can write files into ``folder`` and execute them."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC


if has_room(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

settings.register_profile("quick", deadline=None, max_examples=20, print_blob=True)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=200)
settings.load_profile("quick")


@pytest.fixture
def browser_program() -> str:
    """The program of a Chromium.

    No package of an index holds a browser: where none is installed the test is reported as not
    run. Tests that use it carry the marker ``browser``.
    """
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium here: install one, or name it in PHOENIX_SECURE_BROWSER")
    return browser


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without Python's garbage collector, and never let it walk them later.

    Modules and tests live until the end. To look through them again and again costs a fifth of the
    time of collection, and some of every test's.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
