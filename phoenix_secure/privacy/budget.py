"""A privacy budget: the epsilon and delta that a site is ready to spend.

Apart from the ledger that keeps to it, so that a policy is read without loading accountants.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The budget that all releases of a site together may spend."""

    epsilon: float
    delta: float
