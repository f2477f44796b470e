"""Moves the global model by the mean update. All of it acts on the aggregate alone.

Computed in float64 in a fixed order of sites and stored as float32, so that a resumed run is the
same run bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from phoenix_secure.config import FederationConfig

__all__ = ["mean_update", "server_step"]


def mean_update(deltas: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Weighted mean of the sites' updates.

    Shape:      K vectors (d,) and K weights > 0 -> (d,) float64.
    Source:     McMahan et al. (2017), Algorithm 1, with weights n_k.
    """
    if not deltas or len(deltas) != len(weights) or min(weights) <= 0:
        raise ValueError("expected as many updates as weights, at least one, weights > 0")
    total = np.zeros(deltas[0].shape, np.float64)
    for delta, weight in zip(deltas, weights, strict=True):
        total += delta.astype(np.float64) * weight
    return total / float(sum(weights))


def server_step(
    federation: FederationConfig,
    update: np.ndarray,
    *,
    parameters: np.ndarray,
    momentum: np.ndarray,
    second_moment: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One server step from the mean ``update`` Delta (d,) float64.

    With eta = server_learning_rate, beta1 = server_momentum, tau = server_tau::

        fedavg   x += eta Delta
        fedavgm  m = beta1 m + Delta;                    x += eta m
        fedadam  m = beta1 m + (1 - beta1) Delta;
                 v = beta2 v + (1 - beta2) Delta^2;      x += eta m / (sqrt(v) + tau)
        fedyogi  v = v - (1 - beta2) Delta^2 sign(v - Delta^2), the rest as fedadam

    with m = 0 and v = tau^2 before the first round (``ServerState.initial``).

    Returns:    new parameters, momentum and second moment, float32; unused moments as given.
    Source:     Hsu et al. (2019), section 4 (fedavgm); Reddi et al. (2021), Algorithm 2.
    """
    x = parameters.astype(np.float64)
    m, v = momentum.astype(np.float64), second_moment.astype(np.float64)
    eta, beta1, beta2 = (
        federation.server_learning_rate,
        federation.server_momentum,
        federation.server_beta2,
    )
    match federation.server_optimizer:
        case "fedavg":
            x += eta * update
        case "fedavgm":
            m = beta1 * m + update
            x += eta * m
        case "fedadam" | "fedyogi":
            m = beta1 * m + (1 - beta1) * update
            square = update**2
            if federation.server_optimizer == "fedadam":
                v = beta2 * v + (1 - beta2) * square
            else:
                v = v - (1 - beta2) * square * np.sign(v - square)
            x += eta * m / (np.sqrt(v) + federation.server_tau)
    with np.errstate(over="ignore"):  # the caller refuses an infinite model, with advice
        return x.astype(np.float32), m.astype(np.float32), v.astype(np.float32)
