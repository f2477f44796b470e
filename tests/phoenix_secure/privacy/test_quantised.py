"""Conditional rounding: the bound holds for certain, and tries rarely fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.privacy.quantised import BETA, _squared_norm, round_within, rounded_norm_bound


def stochastic(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    floor = np.floor(values)
    return (floor + (rng.random(values.size) < values - floor)).astype(np.int64)


@pytest.mark.parametrize(("d", "c"), [(1, 0.5), (100, 3.0), (10_000, 50.0), (10_000, 1000.0)])
@pytest.mark.parametrize("shape", ["flat", "one", "halves", "random"])
def test_a_try_stays_within_the_bound_with_the_stated_probability(d, c, shape) -> None:
    rng = np.random.default_rng(d)
    x = {
        "flat": np.ones(d),
        "one": np.eye(1, d)[0],
        "halves": np.arange(d) % 2 + 1e-9,
        "random": rng.normal(size=d),
    }[shape]
    x = x * c / np.linalg.norm(x)
    bound = rounded_norm_bound(c, num_words=d)
    inside = [np.linalg.norm(stochastic(x, rng)) <= bound for _ in range(400)]
    assert np.mean(inside) >= 1 - BETA - 0.08  # 400 tries: three standard errors


def test_without_the_condition_a_rounding_can_exceed_the_bound() -> None:
    d, c = 4, 0.2
    bound = rounded_norm_bound(c, num_words=d)
    assert np.linalg.norm(np.ones(d)) > bound  # every coordinate rounded up: possible, if rare


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=50), st.integers(0, 2**32))
def test_result_never_exceeds_the_bound(values, seed) -> None:
    x = np.array(values)
    c = max(float(np.linalg.norm(x)), 1e-3)
    bound = rounded_norm_bound(c, num_words=x.size)
    words = round_within(
        lambda key: stochastic(x, np.random.default_rng(int.from_bytes(key, "big"))),
        bound=bound,
        key=seed.to_bytes(32, "big"),
    )
    assert sum(int(w) ** 2 for w in words) <= bound**2
    assert np.abs(words - x).max() < 1


def test_vector_that_was_never_clipped_is_refused() -> None:
    with pytest.raises(ValueError, match="clip norm"):
        round_within(lambda key: np.full(4, 100), bound=3.0, key=bytes(32))


def test_tries_use_different_keys_and_repeat_for_one_key() -> None:
    keys: list[bytes] = []

    def rounding(key: bytes) -> np.ndarray:
        keys.append(key)
        return np.array([10 if len(keys) < 4 else 1])

    assert round_within(rounding, bound=2.0, key=bytes(32)).tolist() == [1]
    assert len(set(keys)) == 4


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=60))
def test_squared_norm_is_exact(values: list[int]) -> None:
    assert _squared_norm(np.array(values, np.int32)) == sum(v * v for v in values)


@pytest.mark.parametrize("arguments", [(0.0, 3, 0.5), (1.0, 0, 0.5), (1.0, 3, 1.0), (1.0, 3, 0.0)])
def test_senseless_bounds_are_refused(arguments) -> None:
    norm, words, beta = arguments
    with pytest.raises(ValueError, match="expected"):
        rounded_norm_bound(norm, num_words=words, beta=beta)
