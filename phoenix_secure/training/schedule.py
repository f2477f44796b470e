"""The training schedule of a site: number of steps, learning rate, batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from phoenix_secure.config import RunConfig, TrainingConfig

__all__ = ["batches", "learning_rate", "num_local_steps", "rates_of_round"]


def num_local_steps(training: TrainingConfig, *, num_images: int) -> int:
    """Local steps in one round: ``local_steps``, or ``local_epochs`` passes rounded up."""
    if training.local_steps is not None:
        return training.local_steps
    epochs = training.local_epochs or 1.0
    return max(1, math.ceil(epochs * num_images / training.batch_size))


def learning_rate(
    training: TrainingConfig,
    *,
    step: int,
    num_steps: int,
    cos_pi: Callable[[float], float] | None = None,
) -> float:
    """Rate at 0-based ``step`` of ``num_steps`` over all rounds: linear warm-up, then decay.

    A function of the step alone: a resumed run needs no state of a scheduler. ``cos_pi`` is
    cos(pi x): where several machines must get the same bits, one that does not ask the C library.
    """
    warmup = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    decay = 1.0
    if training.lr_decay == "cosine":
        done = min(step, num_steps)
        cosine = (
            math.cos(math.pi * done / num_steps) if cos_pi is None else cos_pi(done / num_steps)
        )
        decay = 0.5 * (1 + cosine)
    return training.learning_rate * warmup * decay


def rates_of_round(config: RunConfig, round_number: int) -> float:
    """The sum of the learning rates of a round's ``local_steps`` (1-based ``round_number``)."""
    steps = num_local_steps(config.training, num_images=1)
    first, num_steps = (round_number - 1) * steps, config.federation.rounds * steps
    return sum(
        learning_rate(config.training, step=step, num_steps=num_steps)
        for step in range(first, first + steps)
    )


def batches(
    num_images: int, *, batch_size: int, num_steps: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """``num_steps`` batches of indices from one endless chain of shuffles.

    Shape:      (batch_size,) int64 each; a site with fewer images than that repeats some.
    Guarantee:  every image is drawn floor(k) or ceil(k) times, k = num_steps * batch_size / N.
                Not Poisson sampling: differential privacy has its own sampler.
    """
    queue = np.empty(0, np.int64)
    for _ in range(num_steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(num_images)])
        yield queue[:batch_size]
        queue = queue[batch_size:]
