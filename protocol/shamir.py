"""Shamir's secret sharing over the prime field of order 2^256 + 297.

The prime is the smallest one above 2^256, so each 32-byte secret is one field element and shares
need no chunking. Any ``threshold`` shares rebuild the secret; fewer are independent of it.

Source: Shamir (1979), How to share a secret, CACM 22(11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from protocol.entropy import Entropy, draw

__all__ = [
    "PRIME",
    "SECRET_SIZE",
    "SHARE_SIZE",
    "combine",
    "evaluate",
    "lagrange_at_zero",
    "random_elements",
    "split",
]

PRIME: Final = (1 << 256) + 297
SECRET_SIZE: Final = 32
SHARE_SIZE: Final = 33

# 257 bits for the field and 128 more, so that reducing mod p is within 2^-128 of uniform
# (the wide reduction of RFC 9380, section 5.2).
_WIDE_SIZE: Final = 49


def random_elements(num_elements: int, *, entropy: Entropy) -> list[int]:
    """Field elements within statistical distance 2^-128 of uniform each."""
    wide = draw(entropy, _WIDE_SIZE * num_elements)
    return [
        int.from_bytes(wide[start : start + _WIDE_SIZE], "big") % PRIME
        for start in range(0, len(wide), _WIDE_SIZE)
    ]


def evaluate(coefficients: Sequence[int], *, x: int, prime: int = PRIME) -> int:
    """The polynomial with ``coefficients`` (constant term first) at ``x``, by Horner's rule.

    >>> evaluate([3, 2], x=5, prime=7)
    6
    """
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % prime
    return value


def lagrange_at_zero(points: Sequence[int], *, prime: int = PRIME) -> list[int]:
    """Weights w_i with f(0) = sum of w_i f(x_i) for each polynomial of degree below len(points).

    Computed once per set of share holders and used for all secrets.

    Raises:     ValueError for no points, or points that are zero or equal modulo ``prime``.
    """
    residues = [point % prime for point in points]
    if not residues or 0 in residues or len(set(residues)) != len(residues):
        raise ValueError("expected at least one point, all distinct and none of them zero")
    weights = []
    for i, x_i in enumerate(residues):
        numerator = denominator = 1
        for j, x_j in enumerate(residues):
            if j != i:
                numerator = numerator * x_j % prime
                denominator = denominator * (x_j - x_i) % prime
        weights.append(numerator * pow(denominator, -1, prime) % prime)
    return weights


def split(
    secret: bytes, *, points: Sequence[int], threshold: int, entropy: Entropy
) -> dict[int, bytes]:
    """Share ``secret`` so that any ``threshold`` of the shares at ``points`` rebuild it.

    Shape:      ``secret`` 32 bytes; each share 33 bytes, big-endian.
    Guarantee:  fewer than ``threshold`` shares are independent of the secret (up to 2^-128 per
                coefficient).
    Raises:     ValueError for a secret of another size, unfit points, or a threshold outside
                [1, len(points)].
    """
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"expected a secret of {SECRET_SIZE} bytes")
    if not 1 <= threshold <= len(points):
        raise ValueError(f"expected 1 <= threshold <= {len(points)}, got {threshold}")
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("expected distinct points above zero")
    coefficients = [
        int.from_bytes(secret, "big"),
        *random_elements(threshold - 1, entropy=entropy),
    ]
    return {point: evaluate(coefficients, x=point).to_bytes(SHARE_SIZE, "big") for point in points}


def combine(shares: Mapping[int, bytes], *, weights: Mapping[int, int]) -> bytes | None:
    """The 32-byte secret at zero, or None where the shares do not hold one.

    ``weights`` are those of exactly the points whose shares are given. None means that the value
    at zero needs more than 256 bits or a share is no field element: whoever dealt them cheated.
    """
    if shares.keys() != weights.keys():
        raise ValueError("expected one weight for each share")
    total = 0
    for point, share in shares.items():
        value = int.from_bytes(share, "big")
        if len(share) != SHARE_SIZE or value >= PRIME:
            return None
        total += weights[point] * value
    secret = total % PRIME
    return secret.to_bytes(SECRET_SIZE, "big") if secret < 1 << 256 else None
