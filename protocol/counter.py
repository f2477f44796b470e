"""The promise that a site signs one survivor set per round, for ever.

Two sums of one round over different survivors can be subtracted, which shows single inputs
(So et al. 2023, arXiv:2106.03328). The counter must therefore outlive the process; the file that
does so belongs to the application, behind this interface.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["InMemoryRoundCounter", "RoundCounter"]


class RoundCounter(Protocol):
    """Remembers the highest round that this site has signed."""

    def last_signed_round(self) -> int:
        """The highest round recorded, -1 for none."""
        ...

    def record_signed_round(self, round_number: int) -> bool:
        """Record ``round_number`` if it is above every recorded one; False if it is not.

        Must be atomic over all sessions and processes of the site, and durable (fsynced) before
        it returns True: the signature leaves the site right after.
        """
        ...


class InMemoryRoundCounter:
    """For tests and simulations; forgets everything at exit, so never for real data."""

    def __init__(self, last_signed_round: int = -1) -> None:
        self._last = last_signed_round
        self._lock = threading.Lock()

    def last_signed_round(self) -> int:
        """The highest round recorded."""
        return self._last

    def record_signed_round(self, round_number: int) -> bool:
        """Record a higher round."""
        with self._lock:
            if round_number <= self._last:
                return False
            self._last = round_number
            return True
