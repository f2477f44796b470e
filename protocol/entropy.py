"""Where secret bytes come from: the operating system, or a counter in tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from protocol import labels
from protocol.encoding import encode, encode_uint
from protocol.errors import LocalProtocolError

__all__ = ["Entropy", "draw", "insecure_counter_entropy", "os_entropy"]

Entropy = Callable[[int], bytes]

os_entropy: Entropy = os.urandom


def draw(entropy: Entropy, num_bytes: int) -> bytes:
    """``num_bytes`` from ``entropy``, refusing a source that returns anything else."""
    drawn = entropy(num_bytes)
    if not isinstance(drawn, bytes) or len(drawn) != num_bytes:
        raise LocalProtocolError(
            f"the entropy source did not return {num_bytes} bytes: repair it before any key is made"
        )
    return drawn


def insecure_counter_entropy(seed: bytes) -> Entropy:
    """A reproducible source for tests and frozen transcripts: SHA-256 of seed and call number.

    Never give it to a session that handles real data: who knows the seed knows every mask.
    """
    calls = 0

    def entropy(num_bytes: int) -> bytes:
        nonlocal calls
        calls += 1
        blocks = [
            hashlib.sha256(
                encode([labels.INSECURE_ENTROPY, seed, encode_uint(calls), encode_uint(block)])
            ).digest()
            for block in range(-(-num_bytes // 32))
        ]
        return b"".join(blocks)[:num_bytes]

    return entropy
