"""The ceiling that a proven guarantee sets any attack, and a test whether an attack exceeds it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

from attacks.epsilon.trade_off import TradeOff
from attacks.statistics.roc import Roc

__all__ = ["advantage_ceiling", "auc_ceiling", "exceeds_ceiling", "tpr_ceiling"]


def tpr_ceiling(fpr: float, *, trade_off: TradeOff) -> float:
    """1 - f(fpr): with (eps, delta)-DP at most e^eps fpr + delta."""
    if not 0 <= fpr <= 1:
        raise ValueError(f"expected 0 <= fpr <= 1, got {fpr}")
    return 1 - trade_off(fpr)


def auc_ceiling(trade_off: TradeOff) -> float:
    """1 - integral of f, the area under the highest ROC that the guarantee allows."""
    edges = [0.0, *np.logspace(-9, 0, 37).tolist()]
    area = sum(quad(trade_off, low, high)[0] for low, high in pairwise(edges))
    return float(1 - area)


def advantage_ceiling(epsilon: float, *, delta: float) -> float:
    """(e^eps - 1 + 2 delta) / (e^eps + 1), at most 1.

    Source:     Humphries et al. (2023), arXiv:2010.12112.
    """
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"expected epsilon >= 0 and 0 <= delta <= 1, got {epsilon} and {delta}")
    shrunk = math.exp(-epsilon)
    return min(1.0, (1 - shrunk + 2 * delta * shrunk) / (1 + shrunk))


def exceeds_ceiling(curve: Roc, *, trade_off: TradeOff, confidence: float = 0.95) -> bool:
    """Whether the ROC lies above the ceiling beyond what chance explains, at *some* threshold.

    Uses a band that holds for all thresholds at once (Dvoretzky-Kiefer-Wolfowitz-Massart for each
    group), so that looking at the whole curve costs nothing. True is an alarm.

    Guarantee:  false alarms <= 1 - confidence when records are independent; records of one model
                are not quite. A proof needs ``one_run`` or independent runs.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected 0 < confidence < 1, got {confidence}")
    spent = np.log(4 / (1 - confidence)) / 2
    low = curve.tpr - np.sqrt(spent / curve.num_members)
    high: NDArray[np.float64] = np.minimum(curve.fpr + np.sqrt(spent / curve.num_non_members), 1.0)
    return any(
        reached > tpr_ceiling(float(fpr), trade_off=trade_off)
        for reached, fpr in zip(low, high, strict=True)
        if reached > 0
    )
