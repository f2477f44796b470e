"""What every test shares: one thread a process, and how many examples Hypothesis tries.

One thread: parallel test processes share the cores, and so do the processes that they start.
No deadline: how long an example takes says nothing on a machine that others use as well.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a test imports numpy or torch

settings.register_profile("quick", deadline=None, max_examples=20, print_blob=True)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=200)
settings.load_profile("quick")
