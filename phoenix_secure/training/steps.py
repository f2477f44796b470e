"""The frame of a round's local steps: the same for plain and private training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import TrainingError
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.schedule import learning_rate

__all__ = ["Cancelled", "finite_change", "local_steps"]


class Cancelled(Exception):  # noqa: N818 - not an error: the user asked for it
    """Training was asked to stop between two steps; nothing of the round is kept."""


def local_steps(
    config: RunConfig,
    optimizer: torch.optim.Optimizer,
    *,
    round_number: int,
    num_steps: int,
    cancelled: Callable[[], bool],
) -> Iterator[float]:
    """Set the learning rate of each step of a round on ``optimizer``, and yield it.

    Raises:     Cancelled between two steps.
    """
    first_step = (round_number - 1) * num_steps
    all_steps = config.federation.rounds * num_steps
    for step in range(first_step, first_step + num_steps):
        if cancelled():
            raise Cancelled
        rate = learning_rate(config.training, step=step, num_steps=all_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        yield rate


def finite_change(
    network: torch.nn.Module, global_vector: np.ndarray, *, round_number: int, advice: str
) -> np.ndarray:
    """The local minus the global parameters (d,) float32.

    Raises:     TrainingError with ``advice`` when one is not finite.
    """
    change: np.ndarray = to_vector(network)
    change -= global_vector
    if not np.isfinite(change).all():
        raise TrainingError(f"the weights became NaN or infinite in round {round_number}: {advice}")
    return change
