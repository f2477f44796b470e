"""The group of the protocol's keys: the prime-order subgroup of edwards25519, by libsodium.

A scalar is 32 bytes, little-endian, below the order; a point is its 32-byte encoding of RFC 8032.
All arithmetic on points is the library's, which refuses points off the curve, outside the subgroup
and of small order, and results that are the identity.

Source: RFC 8032, section 5.1 (curve and encoding); libsodium's crypto_core_ed25519, through PyNaCl.
"""

from __future__ import annotations

from typing import Final

from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

__all__ = [
    "ORDER",
    "POINT_SIZE",
    "SCALAR_SIZE",
    "difference",
    "is_point",
    "multiple",
    "public_point",
    "read_scalar",
    "write_scalar",
]

ORDER: Final = (1 << 252) + 27742317777372353535851937790883648493
SCALAR_SIZE: Final = 32
POINT_SIZE: Final = 32


def write_scalar(value: int) -> bytes:
    """``value`` modulo the order."""
    return (value % ORDER).to_bytes(SCALAR_SIZE, "little")


def read_scalar(data: bytes) -> int | None:
    """The scalar in ``data``, or None unless it is 32 bytes and below the order."""
    value = int.from_bytes(data, "little")
    return value if len(data) == SCALAR_SIZE and value < ORDER else None


def is_point(data: bytes) -> bool:
    """Whether ``data`` is the one encoding of a point of the subgroup other than the identity."""
    return len(data) == POINT_SIZE and bindings.crypto_core_ed25519_is_valid_point(data)


def public_point(scalar: bytes) -> bytes:
    """``scalar`` times the base point, in constant time.

    Raises:     ValueError for zero or a scalar of another size.
    """
    return _call(bindings.crypto_scalarmult_ed25519_base_noclamp, scalar)


def multiple(scalar: bytes, point: bytes) -> bytes:
    """``scalar`` times ``point``, in constant time.

    Raises:     ValueError for zero, a point outside the subgroup or another size.
    """
    return _call(bindings.crypto_scalarmult_ed25519_noclamp, scalar, point)


def difference(first: bytes, second: bytes) -> bytes:
    """``first`` - ``second``; ValueError for what is no point of the curve."""
    return _call(bindings.crypto_core_ed25519_sub, first, second)


def _call(function: object, *arguments: bytes) -> bytes:
    try:
        result: bytes = function(*arguments)  # type: ignore[operator]
    except (SodiumError, TypeError) as error:
        raise ValueError("expected a scalar other than zero and points of the subgroup") from error
    return result
