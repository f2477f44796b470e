"""Length, learning rate and batches of a round."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import TrainingConfig
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.schedule import batches, learning_rate, num_local_steps


@given(
    num_images=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    num_steps=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_every_image_is_drawn_equally_often(
    num_images: int, batch_size: int, num_steps: int, seed: int
) -> None:
    drawn = list(
        batches(
            num_images,
            batch_size=batch_size,
            num_steps=num_steps,
            rng=SeedTree(seed).numpy(),
        )
    )
    assert [len(batch) for batch in drawn] == [batch_size] * num_steps
    counts = np.bincount(np.concatenate(drawn), minlength=num_images)
    share = num_steps * batch_size / num_images
    assert set(counts) <= {math.floor(share), math.ceil(share)}


def test_batches_repeat_for_a_seed() -> None:
    def draw(seed: int) -> list[list[int]]:
        rng = SeedTree(seed).numpy()
        return [b.tolist() for b in batches(50, batch_size=8, num_steps=9, rng=rng)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_learning_rate_warms_up_peaks_and_decays_to_zero() -> None:
    training = TrainingConfig(learning_rate=0.5, warmup_steps=10, lr_decay="cosine")
    rates = [learning_rate(training, step=s, num_steps=100) for s in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) <= 0.5
    assert all(a <= b for a, b in itertools.pairwise(rates[:10]))
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_learning_rate_stays_without_decay_and_warm_up() -> None:
    training = TrainingConfig(learning_rate=0.5, warmup_steps=0, lr_decay="none")
    assert {learning_rate(training, step=s, num_steps=9) for s in range(9)} == {0.5}


@pytest.mark.parametrize(
    ("settings_", "num_images", "expected"),
    [
        ({"local_steps": 7}, 1000, 7),
        ({"local_steps": None, "local_epochs": 1}, 129, 3),
        ({"local_steps": None, "local_epochs": 2.5}, 128, 5),
        ({"local_steps": None, "local_epochs": 0.01}, 5, 1),
    ],
)
def test_length_of_a_round(settings_: dict, num_images: int, expected: int) -> None:
    assert num_local_steps(TrainingConfig(**settings_), num_images=num_images) == expected
