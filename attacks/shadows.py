"""Training records of each shadow model, and the checks that shadow attacks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ShadowSignals", "complementary_pairs", "log_loss_signal"]


def complementary_pairs(
    num_records: int, *, num_pairs: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(2 num_pairs, num_records) booleans: True = that shadow trains on the record.

    Rows 2i and 2i + 1 are each other's complement, so that every record is IN for exactly
    ``num_pairs`` shadows and OUT for as many. Independent random halves leave records without an
    IN or an OUT model when shadows are few.

    Guarantee:  every shadow has num_records / 2 records, the size that the target must have too:
                a shadow that is trained on another number of records overfits differently.
    Raises:     ValueError for an odd number of records, or no pairs.
    """
    if num_records < 2 or num_records % 2:
        raise ValueError(f"expected an even number of records, got {num_records}; leave one out")
    if num_pairs < 1:
        raise ValueError(f"expected num_pairs >= 1, got {num_pairs}")
    inclusion = np.zeros((2 * num_pairs, num_records), dtype=np.bool_)
    for pair in range(num_pairs):
        inclusion[2 * pair, rng.permutation(num_records)[: num_records // 2]] = True
        inclusion[2 * pair + 1] = ~inclusion[2 * pair]
    return inclusion


def log_loss_signal(losses: ArrayLike) -> NDArray[np.float64]:
    """-log of a record's (averaged) diffusion loss: nearly normal across shadows, larger = member.

    Raises:     ValueError for a loss that is not positive and finite.
    """
    values = np.asarray(losses, dtype=np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("losses: expected positive finite values")
    return -np.log(values)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowSignals:
    """One signal per shadow and record, larger = member, all made with the *same* noise.

    Shape:      signals (S, N) float64, inclusion (S, N) bool (False everywhere offline).
    """

    signals: NDArray[np.float64]
    inclusion: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.signals.ndim != 2 or self.signals.size == 0:
            raise ValueError(f"signals: expected (S, N), got {self.signals.shape}")
        if self.inclusion.shape != self.signals.shape or self.inclusion.dtype != np.bool_:
            raise ValueError(f"inclusion: expected booleans of shape {self.signals.shape}")
        if not np.isfinite(self.signals).all():
            raise ValueError("signals: contain NaN or infinity")

    def check_target(self, signal: ArrayLike) -> NDArray[np.float64]:
        """The target's signal as finite (N,) float64."""
        values = np.asarray(signal, dtype=np.float64)
        if values.shape != (self.signals.shape[1],):
            raise ValueError(
                f"signal: expected shape ({self.signals.shape[1]},), got {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError("signal: contains NaN or infinity")
        return values

    def require(self, *, num_in: int, num_out: int) -> None:
        """Refuse records with fewer IN or OUT shadows than an attack needs."""
        ins = self.inclusion.sum(axis=0)
        outs = len(self.inclusion) - ins
        short = int(((ins < num_in) | (outs < num_out)).sum())
        if short:
            raise ValueError(
                f"{short} record(s) have fewer than {num_in} IN or {num_out} OUT shadows; "
                "train shadows in complementary pairs (shadows.complementary_pairs)"
            )
