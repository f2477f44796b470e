"""Limits that a message can name: two digits, and never on the wrong side."""

from __future__ import annotations

import decimal
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

__all__ = ["two_digits_down", "two_digits_up"]


def two_digits_up(value: float) -> float:
    """The least number of two digits that is not below ``value`` > 0.

    >>> two_digits_up(1 / 7), two_digits_up(0.5)
    (0.15, 0.5)
    """
    return _two_digits(value, rounding=ROUND_CEILING)


def two_digits_down(value: float) -> float:
    """The greatest number of two digits that is not above ``value`` > 0.

    >>> two_digits_down(1 / 7), two_digits_down(0.5)
    (0.14, 0.5)
    """
    return _two_digits(value, rounding=ROUND_FLOOR)


def _two_digits(value: float, *, rounding: str) -> float:
    # The shortest decimal of a float: 0.1 is 0.1 here, and not a little above it.
    shortest = Decimal(repr(float(value)))
    return float(decimal.Context(prec=2, rounding=rounding).plus(shortest))
