"""Flower's SuperNode with a shorter pause between two looks, as a process of its own.

Stock Flower looks for messages every three seconds, which a protocol of five stages pays in every
stage of every round. ``python -m phoenix_secure.federation.site.supernode`` takes the arguments
of ``flower-supernode``; ``PHOENIX_SUPERNODE_POLL_S`` sets the pause.
"""

from __future__ import annotations

import os
import time

from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode

from phoenix_secure.federation.engines.flower_api import check_flower_version
from phoenix_secure.federation.processes import die_with_parent

__all__ = ["main"]

DEFAULT_POLL_S = 0.3


class _ShorterPauses:
    """The module ``time`` as the SuperNode's loop sees it."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self._longest_s))


def main() -> None:
    """Run a SuperNode until it is stopped or the process that started it is gone."""
    check_flower_version()
    die_with_parent()
    pause = float(os.environ.get("PHOENIX_SUPERNODE_POLL_S", DEFAULT_POLL_S))
    # The loop calls time.sleep(3) and time.sleep(0.5) and nothing else of the module.
    vars(start_client_internal)["time"] = _ShorterPauses(pause)
    flower_supernode()


if __name__ == "__main__":
    main()
