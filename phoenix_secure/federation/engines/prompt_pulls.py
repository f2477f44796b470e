"""Flower's way of fetching content that is still on its way, looking again sooner.

Flower shows a message before its content is stored. Who fetches it in that moment waits a second
before looking again, in each leg of each stage: more than half of the time of a secure round. The
pause begins with 20 ms here and doubles as Flower's does, so that a long upload costs as few calls
as ever.
"""

from __future__ import annotations

import functools
from types import ModuleType

from flwr.supercore.inflatable.inflatable_utils import pull_objects

__all__ = ["FIRST_PAUSE_S", "pull_promptly", "use_prompt_pulls"]

FIRST_PAUSE_S = 0.02

pull_promptly = functools.partial(pull_objects, initial_backoff=FIRST_PAUSE_S)


def use_prompt_pulls(module: ModuleType, name: str) -> None:
    """Let Flower's ``module`` fetch so where it calls ``name``, which takes ``initial_backoff``."""
    found = vars(module)[name]
    if FIRST_PAUSE_S not in getattr(found, "keywords", {}).values():
        vars(module)[name] = functools.partial(found, initial_backoff=FIRST_PAUSE_S)
