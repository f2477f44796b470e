"""A privacy budget: the epsilon and delta that a site is ready to spend.

Apart from the ledger that keeps to it, so that a policy is read without loading accountants.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LARGEST_DELTA", "LEAST_DELTA", "Budget"]

# Delta must be well below 1/n: this is 1/n of a hundred records (or parties).
LARGEST_DELTA = 0.01
# Below this delta double precision decides, and not the mechanism.
LEAST_DELTA = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The budget that all releases of a site together may spend."""

    epsilon: float
    delta: float
