"""Plaintext rounds: one update for each round, whatever is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import TrainRequest

__all__ = ["PlaintextOnce"]


class PlaintextOnce:
    """Answers each round once; a second, different request for it, or an older one, is refused.

    (In secure rounds ``SecureSite`` keeps these promises, on the disk.)
    """

    def __init__(self, handle: Callable[[str, bytes], bytes]) -> None:
        self._handle = handle
        self._last = 0, b"", b""  # round, digest of the request, reply

    def __call__(self, stage: str, body: bytes) -> bytes:
        if stage != "train":
            raise SiteFailure(FailureCode.REFUSED, why="not a stage of plaintext rounds")
        try:
            number = TrainRequest.from_bytes(body).round_number
        except ValueError:
            raise SiteFailure(FailureCode.MALFORMED) from None
        digest = hashlib.sha256(body).digest()
        if (number, digest) == self._last[:2]:
            return self._last[2]
        if number <= self._last[0]:
            raise SiteFailure(
                FailureCode.REFUSED, why=f"round {number} was answered before, or is past"
            )
        reply = self._handle(stage, body)
        self._last = number, digest, reply
        return reply
