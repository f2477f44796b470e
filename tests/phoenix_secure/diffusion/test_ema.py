"""The moving average: its recursion, its warm-up, its ends."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.config import EmaConfig
from phoenix_secure.diffusion.ema import ema_decay, update_ema


def test_average_is_the_recursion() -> None:
    average = np.zeros(3, np.float32)
    for value in (1.0, 2.0, 4.0):
        average = update_ema(average, np.full(3, value, np.float32), decay=0.5)
    np.testing.assert_allclose(average, 0.125 * 1 + 0.25 * 2 + 0.5 * 4)
    assert average.dtype == np.float32


def test_decay_of_a_round_is_that_of_its_steps() -> None:
    ema = EmaConfig(decay=0.99, warmup=False)
    assert ema_decay(ema, num_updates=0, steps_per_round=10) == pytest.approx(0.99**10)


def test_warm_up_starts_short_and_ends_at_the_decay() -> None:
    ema = EmaConfig(decay=0.999, warmup=True)
    decays = [ema_decay(ema, num_updates=n, steps_per_round=10) for n in (0, 5, 10_000)]
    assert decays[:2] == pytest.approx([0.1, 0.4])
    assert decays[2] == pytest.approx(0.999**10)


def test_zero_decay_follows_the_parameters() -> None:
    decay = ema_decay(EmaConfig(decay=0.0), num_updates=3, steps_per_round=5)
    new = np.array([1.5, -2.0], np.float32)
    np.testing.assert_array_equal(update_ema(np.zeros(2, np.float32), new, decay=decay), new)
