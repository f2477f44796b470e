"""Powers, exponentials and cosines with the same bits on every machine.

IEEE 754 fixes the bits of +, -, *, / and the square root. It leaves ``pow``, ``exp`` and ``cos`` to
each C library, and two of them may differ in the last bit. Decimal arithmetic of fixed precision
does not depend on the machine.
"""

from __future__ import annotations

import decimal

__all__ = ["exact_cos_pi", "exact_exp", "exact_power"]

# 50 digits: float64 needs 17; the nearest float64 is the same as that of the true value but for
# arguments that lie within 10^-30 of the middle between two, and then still the same everywhere.
_CONTEXT = decimal.Context(
    prec=50,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-(10**6),
    Emax=10**6,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)

_PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582")


def exact_cos_pi(x: float) -> float:
    """cos(pi x) for 0 <= x <= 1, by its power series.

    >>> exact_cos_pi(0.0), exact_cos_pi(0.5), exact_cos_pi(1.0)
    (1.0, 0.0, -1.0)
    """
    if not 0 <= x <= 1:
        raise ValueError(f"expected 0 <= x <= 1, got {x}")
    if x > 0.5:  # shorter arguments: fewer terms
        return -exact_cos_pi(1 - x)
    if x == 0.5:
        return 0.0
    square = _CONTEXT.power(_CONTEXT.multiply(_PI, decimal.Decimal(x)), 2)
    total = term = decimal.Decimal(1)
    for n in range(2, 60, 2):
        term = _CONTEXT.divide(_CONTEXT.multiply(term, square), decimal.Decimal(-n * (n - 1)))
        total = _CONTEXT.add(total, term)
    return float(total)


def exact_exp(x: float) -> float:
    """e ** x for a finite ``x``.

    >>> exact_exp(0.0), exact_exp(1.0)
    (1.0, 2.718281828459045)
    """
    return float(_CONTEXT.exp(decimal.Decimal(x)))


def exact_power(base: float, exponent: float) -> float:
    """base ** exponent for a finite base >= 0 and exponent >= 0, with 0 ** 0 = 1.

    >>> exact_power(0.5, 3.0), exact_power(0.0, 2.0), exact_power(0.0, 0.0)
    (0.125, 0.0, 1.0)
    """
    if base == 0.0:
        return 0.0 if exponent > 0 else 1.0
    return float(_CONTEXT.power(decimal.Decimal(base), decimal.Decimal(exponent)))
