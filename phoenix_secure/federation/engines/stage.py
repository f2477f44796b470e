"""One open stage: whose answers are in, and when it closes. The same rule for every engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, OnReply, Reply

__all__ = ["Stage"]

_TAKEN = Reply(body=b"")


class Stage:
    """Closes when all have answered; ``grace_s`` after ``quorum`` good answers; at the deadline.

    Only the first answer of a site counts, so that one delivered twice changes nothing.
    """

    def __init__(
        self,
        sites: Iterable[str],
        *,
        deadline_s: float,
        quorum: int | None,
        grace_s: float,
        on_reply: OnReply | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = set(sites)
        self._answers: dict[str, Reply | Failure] = {}
        self._quorum = len(self._waiting) if quorum is None else min(quorum, len(self._waiting))
        self._grace_s = grace_s
        self._on_reply = on_reply
        self._clock = clock
        self._close_at = clock() + deadline_s
        self._quorum_reached = False

    def settle(self, site: str, answer: Reply | Failure) -> None:
        """Take the first answer of ``site``; ignore later ones and those of strangers."""
        if site not in self._waiting:
            return
        self._waiting.remove(site)
        if self._on_reply is not None and isinstance(answer, Reply):
            answer = self._on_reply(site, answer) or _TAKEN
        self._answers[site] = answer
        good = sum(isinstance(known, Reply) for known in self._answers.values())
        if not self._quorum_reached and good >= self._quorum:
            self._quorum_reached = True
            self._close_at = min(self._close_at, self._clock() + self._grace_s)

    @property
    def waiting(self) -> frozenset[str]:
        """Sites without an answer so far."""
        return frozenset(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self._waiting or self._clock() >= self._close_at

    def answers(self) -> dict[str, Reply | Failure]:
        """One entry for each site, sorted; those that stayed away gave no reply."""
        missing = dict.fromkeys(self._waiting, Failure(code=FailureCode.NO_REPLY))
        return dict(sorted((self._answers | missing).items()))
