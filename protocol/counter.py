"""The promise that a site signs one survivor set per round, for ever.

Two sums of one round over different survivors can be subtracted, which shows single inputs
(So et al. 2023, arXiv:2106.03328). The counter must therefore outlive the process; the file that
does so belongs to the application, behind this interface.

A sum needs signatures from a quorum, not from each site in it. So a site also remembers in which
attempts of the round it has sent an input: it takes part in another one only if any two quorums
of the two cohorts share more than c sites, hence an honest one, who signs once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

__all__ = ["InMemoryRoundCounter", "RoundCounter", "SentInput"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SentInput:
    """One attempt in which this site sent a masked input; nothing in it is secret."""

    context: bytes
    cohort: tuple[str, ...]
    quorum: int
    num_colluders: int

    def excludes_second_sum(self, other: SentInput) -> bool:
        """Whether a sum of this attempt and one of ``other`` need a common honest signer.

        |Q1 and Q2| >= q1 + q2 - |union of the cohorts|, which must exceed c.
        """
        union = len({*self.cohort, *other.cohort})
        common = self.quorum + other.quorum - union
        return common > max(self.num_colluders, other.num_colluders)


class RoundCounter(Protocol):
    """Remembers the highest round that this site has signed."""

    def last_signed_round(self) -> int:
        """The highest round recorded, -1 for none."""
        ...

    def record_signed_round(self, round_number: int, survivors: tuple[str, ...]) -> bool:
        """Record that ``survivors`` is about to be signed; False where a promise forbids it.

        A round that is not above every recorded one is forbidden. An implementation may forbid
        more: the same input over other survivors than signed before, for instance.

        Must be atomic over all sessions and processes of the site, and durable (fsynced) before
        it returns True: the signature leaves the site right after.
        """
        ...

    def record_sent_input(self, round_number: int, sent: SentInput) -> tuple[SentInput, ...]:
        """Record ``sent`` for the round and return what was recorded for it before.

        Must be atomic and durable like ``record_signed_round``. Records of rounds at or below
        ``last_signed_round`` may be dropped.
        """
        ...


class InMemoryRoundCounter:
    """For tests and simulations; forgets everything at exit, so never for real data."""

    def __init__(self, last_signed_round: int = -1) -> None:
        self._last = last_signed_round
        self._sent: dict[int, tuple[SentInput, ...]] = {}
        self._lock = threading.Lock()

    def last_signed_round(self) -> int:
        """The highest round recorded."""
        return self._last

    def record_signed_round(self, round_number: int, survivors: tuple[str, ...]) -> bool:
        """Record a higher round, whatever the survivors."""
        with self._lock:
            if round_number <= self._last:
                return False
            self._last = round_number
            return True

    def record_sent_input(self, round_number: int, sent: SentInput) -> tuple[SentInput, ...]:
        """Record one more attempt of a round."""
        with self._lock:
            before = self._sent.get(round_number, ())
            kept = {r: inputs for r, inputs in self._sent.items() if r > self._last}
            self._sent = kept | {round_number: (*before, sent)}
            return before
