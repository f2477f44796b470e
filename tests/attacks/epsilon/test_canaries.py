from __future__ import annotations

import numpy as np
import pytest

from attacks.epsilon.canaries import (
    InputCanary,
    dirac_canaries,
    draw_inclusion,
    input_canaries,
)
from attacks.epsilon.guesses import GuessPlan
from attacks.epsilon.lower_bound import Method, epsilon_lower_bound
from attacks.epsilon.trade_off import mu_of_gaussian


def test_inclusion_is_drawn_by_independent_fair_coins() -> None:
    rng = np.random.default_rng(0)
    counts = [int(draw_inclusion(100, rng=rng).sum()) for _ in range(2000)]
    assert abs(np.mean(counts) - 50) < 3 * 5 / np.sqrt(2000)
    # Exactly one half each time would have no spread at all.
    assert abs(np.std(counts) - 5) < 0.4
    with pytest.raises(ValueError, match="num_canaries"):
        draw_inclusion(0, rng=rng)


@pytest.mark.parametrize("kind", list(InputCanary))
def test_input_canaries_are_images_and_all_differ(kind: InputCanary, rng) -> None:
    x = input_canaries(50, shape=(3, 9, 10), kind=kind, rng=rng)
    assert x.shape == (50, 3, 9, 10)
    assert x.dtype == np.float32
    assert np.abs(x).max() <= 1
    assert len(np.unique(x.reshape(50, -1), axis=0)) == 50
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        input_canaries(5, shape=(3, 0, 10), kind=kind, rng=rng)


def test_dirac_gradients_have_the_clip_norm_at_coordinates_of_their_own(rng) -> None:
    canaries = dirac_canaries(30, num_parameters=40, clip_norm=0.7, rng=rng)
    gradients = np.stack([canaries.gradient(i) for i in range(30)])
    np.testing.assert_allclose(np.linalg.norm(gradients, axis=1), 0.7)
    np.testing.assert_allclose(gradients @ gradients.T, 0.49 * np.eye(30), atol=1e-12)
    # The score is the inner product with the unit canary.
    total = rng.normal(0, 1, 40)
    np.testing.assert_allclose(canaries.score(total), gradients @ total / 0.7)


def test_dirac_canaries_refuse_what_cannot_be(rng) -> None:
    with pytest.raises(ValueError, match="num_canaries <= 10"):
        dirac_canaries(11, num_parameters=10, clip_norm=1.0, rng=rng)
    with pytest.raises(ValueError, match="clip_norm"):
        dirac_canaries(5, num_parameters=10, clip_norm=0.0, rng=rng)
    canaries = dirac_canaries(5, num_parameters=10, clip_norm=1.0, rng=rng)
    with pytest.raises(ValueError, match="total"):
        canaries.score(np.zeros(9))
    with pytest.raises(ValueError, match="NaN"):
        canaries.score(np.full(10, np.nan))


@pytest.mark.parametrize("epsilon", [2.0, 4.91])
def test_dirac_canaries_in_noisy_sums_never_prove_more_than_the_truth(
    epsilon: float,
) -> None:
    """DP-SGD with full batches: each step adds clip_norm e_i for the included, and noise."""
    rng = np.random.default_rng(7)
    m, num_parameters, steps, clip = 300, 5000, 40, 0.5
    sigma = np.sqrt(steps) / mu_of_gaussian(epsilon, delta=1e-5)
    canaries = dirac_canaries(m, num_parameters=num_parameters, clip_norm=clip, rng=rng)
    plans = [GuessPlan(num_included=75, num_left_out=75)]
    found = {}
    for name, noise in (("claimed", sigma), ("a tenth", sigma / 10)):
        included = draw_inclusion(m, rng=rng)
        total = np.zeros(num_parameters)
        for _ in range(steps):
            total += sum(canaries.gradient(i) for i in np.flatnonzero(included))
            total += rng.normal(0, noise * clip, num_parameters)
        found[name] = epsilon_lower_bound(
            canaries.score(total),
            inclusion=included,
            plans=plans,
            delta=1e-5,
            rng=rng,
            method=Method.GAUSSIAN_F_DP,
        ).value
    assert 0 < found["claimed"] <= epsilon
    assert found["a tenth"] > epsilon
