"""Shamir's secret sharing over the scalars of the group (``group.ORDER``, a prime of 253 bits).

A secret is a scalar, so that its multiple of the base point, which is public, binds the dealer to
it (``dealing``). Any ``threshold`` shares rebuild the secret; fewer are independent of it.

Source: Shamir (1979), How to share a secret, CACM 22(11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.entropy import Entropy, draw
from protocol.group import ORDER, SCALAR_SIZE, read_scalar, write_scalar

__all__ = [
    "PRIME",
    "SHARE_SIZE",
    "combine",
    "evaluate",
    "lagrange_at_zero",
    "random_elements",
    "random_polynomial",
    "shares_at",
]

PRIME: Final = ORDER
SHARE_SIZE: Final = SCALAR_SIZE

# 253 bits for the field and more than 128 beside them, so that reducing mod p is within 2^-128 of
# uniform (the wide reduction of RFC 9380, section 5.2).
_WIDE_SIZE: Final = 48


def random_elements(num_elements: int, *, entropy: Entropy) -> list[int]:
    """Field elements within statistical distance 2^-128 of uniform each."""
    wide = draw(entropy, _WIDE_SIZE * num_elements)
    return [
        int.from_bytes(wide[start : start + _WIDE_SIZE], "little") % PRIME
        for start in range(0, len(wide), _WIDE_SIZE)
    ]


def random_polynomial(secret: bytes, *, threshold: int, entropy: Entropy) -> list[int]:
    """A polynomial of degree below ``threshold`` with ``secret`` at zero: its coefficients.

    Guarantee:  the values at fewer than ``threshold`` points other than zero are independent of
                the secret (up to 2^-128 per coefficient).
    Raises:     ValueError for a secret that is no scalar, or a threshold below 1.
    """
    constant = read_scalar(secret)
    if constant is None:
        raise ValueError("expected a secret that is a scalar of the group")
    if threshold < 1:
        raise ValueError(f"expected threshold >= 1, got {threshold}")
    return [constant, *random_elements(threshold - 1, entropy=entropy)]


def evaluate(coefficients: Sequence[int], *, x: int, prime: int = PRIME) -> int:
    """The polynomial with ``coefficients`` (constant term first) at ``x``, by Horner's rule.

    >>> evaluate([3, 2], x=5, prime=7)
    6
    """
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % prime
    return value


def shares_at(points: Iterable[int], *, polynomial: Sequence[int]) -> dict[int, bytes]:
    """The polynomial's value at each point, 32 bytes."""
    return {point: write_scalar(evaluate(polynomial, x=point)) for point in points}


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


def combine(shares: Mapping[int, bytes], *, weights: Mapping[int, int]) -> bytes | None:
    """The 32-byte secret at zero, or None where a share is no field element.

    ``weights`` are those of exactly the points whose shares are given.
    """
    if shares.keys() != weights.keys():
        raise ValueError("expected one weight for each share")
    total = 0
    for point, share in shares.items():
        value = read_scalar(share)
        if value is None:
            return None
        total += weights[point] * value
    return write_scalar(total)
