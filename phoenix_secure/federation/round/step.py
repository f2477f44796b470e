"""The step from one state of the global model to the next, by the mean update of a round.

The server takes it, and in secure rounds every site takes it too. With ``federation.exchange``
gradients the mean update is minus the mean gradient, and this is the optimizer's step.

Both must end with the same bits on different machines, so all of it is elementwise: each numpy
operation below is one operation of IEEE 754 a coordinate, whose result does not depend on the CPU,
the number of threads or the order of coordinates. Sums over coordinates, dot products, BLAS and
torch have no place here; powers, exponentials and cosines come from ``round/exact.py``. Computed in
float64, stored as float32.
"""

from __future__ import annotations

import numpy as np

from phoenix_secure.config import FederationConfig, RunConfig
from phoenix_secure.diffusion.ema import ema_decay, update_ema
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.federation.round.exact import exact_cos_pi, exact_power
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.training.schedule import learning_rate

__all__ = ["next_state", "server_step"]

_BUILT_IN = ("fedavg", "fedavgm", "fedadam", "fedyogi")
_CHUNK = 1 << 15


def next_state(
    state: ServerState,
    update: np.ndarray,
    *,
    config: RunConfig,
    steps_per_site: float,
    clip_factor: float,
) -> ServerState:
    """The state after the round that follows ``state``: the server's step, then the moving average.

    update          mean update (d,) float64 of the sites in the sum
    steps_per_site  local steps, mean over those sites; unread where the settings say how many
    clip_factor     adaptive clip norm of the round after

    Guarantee:  the same bits on every machine where the sites recompute the model
                (``secure_aggregation.broadcast`` sum).
    Raises:     TrainingError for a model that became infinite.
    """
    parameters, momentum, second_moment = server_step(
        config.federation,
        update,
        parameters=state.parameters,
        momentum=state.momentum,
        second_moment=state.second_moment,
        rate=_rate(config, step=state.round_number),
    )
    if not np.isfinite(parameters).all():
        raise TrainingError(
            f"round {state.round_number + 1}: the global model became infinite: "
            "lower federation.server_learning_rate"
        )
    # A run that began with the C library's power goes on with it.
    is_recomputed = config.secure_aggregation.broadcast == "sum"
    decay = ema_decay(
        config.ema,
        num_updates=state.round_number,
        steps_per_round=_local_steps(config, counted=steps_per_site),
        power=exact_power if is_recomputed else pow,
    )
    return ServerState(
        round_number=state.round_number + 1,
        parameters=parameters,
        ema=update_ema(state.ema, parameters, decay=decay),
        momentum=momentum,
        second_moment=second_moment,
        clip_factor=clip_factor,
    )


def _local_steps(config: RunConfig, *, counted: float) -> float:
    """Steps of one site in a round, the exponent of the moving average's decay.

    One dishonest site can make a summed count anything that many sites could take, and so stop the
    average: it counts only where nobody knows better (``training.local_epochs``).
    """
    if config.release.is_on:
        return counted
    if config.federation.exchange == "gradients":
        return 1.0
    steps = config.training.local_steps
    return counted if steps is None else float(steps)


def _rate(config: RunConfig, *, step: int) -> float:
    """``training.learning_rate`` at a 0-based step of gradients; 1 in a round of updates."""
    if config.federation.exchange == "updates":
        return 1.0
    return learning_rate(
        config.training, step=step, num_steps=config.federation.rounds, cos_pi=exact_cos_pi
    )


def server_step(
    federation: FederationConfig,
    update: np.ndarray,
    *,
    parameters: np.ndarray,
    momentum: np.ndarray,
    second_moment: np.ndarray,
    rate: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One server step from the mean ``update`` Delta (d,) float64.

    With eta = rate server_learning_rate, beta1 = server_momentum, tau = server_tau::

        fedavg   x += eta Delta
        fedavgm  m = beta1 m + Delta;                    x += eta m
        fedadam  m = beta1 m + (1 - beta1) Delta;
                 v = beta2 v + (1 - beta2) Delta^2;      x += eta m / (sqrt(v) + tau)
        fedyogi  v = v - (1 - beta2) Delta^2 sign(v - Delta^2), the rest as fedadam

    with m = 0 and v = tau^2 before the first round (``ServerState.initial``).

    and any other name is an extension's (``extensions.ServerOptimizer``).

    Returns:    new parameters, momentum and second moment, float32; unused moments as given.
    Raises:     ConfigError for an extension that is missing or returns something else.
    Source:     Hsu et al. (2019), section 4 (fedavgm); Reddi et al. (2021), Algorithm 2.
    """
    eta = rate * federation.server_learning_rate
    if federation.server_optimizer not in _BUILT_IN:
        x, m, v = _extension_step(
            federation.server_optimizer,
            update,
            x=parameters.astype(np.float64),
            m=momentum.astype(np.float64),
            v=second_moment.astype(np.float64),
            rate=eta,
        )
        return _stored(x), _stored(m), _stored(v)
    after = tuple(np.empty(old.size, np.float32) for old in (parameters, momentum, second_moment))
    # Each coordinate by itself: no second vector in float64, and a chunk stays in the cache.
    for start in range(0, parameters.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        found = _step_of_chunk(
            federation,
            update[part],
            x=parameters[part].astype(np.float64),
            m=momentum[part].astype(np.float64),
            v=second_moment[part].astype(np.float64),
            eta=eta,
        )
        for target, values in zip(after, found, strict=True):
            target[part] = _stored(values)
    return after[0], after[1], after[2]


def _step_of_chunk(
    federation: FederationConfig,
    update: np.ndarray,
    *,
    x: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    eta: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``server_step`` of some coordinates, in float64; ``x`` is overwritten."""
    beta1, beta2 = federation.server_momentum, federation.server_beta2
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
    return x, m, v


def _stored(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # the caller refuses an infinite model, with advice
        return values.astype(np.float32)


def _extension_step(
    name: str, update: np.ndarray, *, x: np.ndarray, m: np.ndarray, v: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    step = extension(ExtensionPoint.SERVER_OPTIMIZER, name)
    # Copies: what it does to its arguments is no part of its answer.
    found = step(
        update.copy(), parameters=x.copy(), momentum=m.copy(), second_moment=v.copy(), rate=rate
    )
    is_right = isinstance(found, tuple) and len(found) == 3
    if not is_right or any(
        not isinstance(each, np.ndarray) or each.shape != x.shape or each.dtype != np.float64
        for each in found
    ):
        raise ConfigError(
            f"federation.server_optimizer: {name} must return three float64 vectors of "
            f"{x.size:,} numbers: parameters, momentum and second moment"
        )
    parameters, momentum, second_moment = found
    return parameters, momentum, second_moment
