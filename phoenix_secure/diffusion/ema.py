"""The moving average of the global model, kept at the server.

Sites send one vector; averaging at the server halves what averaging at the sites would upload.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from phoenix_secure.config import EmaConfig

__all__ = ["ema_decay", "update_ema"]

_CHUNK = 1 << 15


def ema_decay(
    ema: EmaConfig,
    *,
    num_updates: int,
    steps_per_round: float,
    power: Callable[[float, float], float] = pow,
) -> float:
    """Decay of one round: ``decay ** steps_per_round``, shorter at first when ``warmup``.

    The warm-up min(d, (1 + n) / (10 + n)) after n earlier updates is that of TensorFlow's
    ExponentialMovingAverage (``num_updates``); n counts rounds here, not steps. ``power`` raises
    the decay: where several machines must get the same bits, one that does not ask the C library.
    """
    decay = float(power(ema.decay, steps_per_round))
    if ema.warmup:
        return min(decay, (1 + num_updates) / (10 + num_updates))
    return decay


def update_ema(average: np.ndarray, parameters: np.ndarray, *, decay: float) -> np.ndarray:
    """``decay * average + (1 - decay) * parameters`` in float64, returned as float32.

    Shape:      (d,) float32 in and out.
    """
    mixed = np.empty(average.size, np.float32)
    for start in range(0, average.size, _CHUNK):  # no vector in float64, and faster by far
        part = slice(start, start + _CHUNK)
        old, new = average[part].astype(np.float64), parameters[part].astype(np.float64)
        mixed[part] = decay * old + (1 - decay) * new
    return mixed
