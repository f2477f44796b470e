"""The ratio of a dry run against drawn noise and summed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.privacy.noise_length import noise_over_signal


@pytest.mark.parametrize(("noise_multiplier", "clip_norm", "m"), [(0.7, 2.0, 5), (3.0, 0.1, 80)])
def test_it_is_the_length_of_drawn_noise_over_that_of_the_longest_sum(
    noise_multiplier: float, clip_norm: float, m: int
) -> None:
    rng, d = np.random.default_rng(0), 20_000
    noise = rng.normal(scale=noise_multiplier * clip_norm, size=d)
    direction = rng.normal(size=d)
    longest = sum(clip_norm * direction / np.linalg.norm(direction) for _ in range(m))
    found = noise_over_signal(noise_multiplier=noise_multiplier, num_parameters=d, num_summed=m)
    assert found == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(longest), rel=0.03)
    assert found != pytest.approx(2 * np.linalg.norm(noise) / np.linalg.norm(longest), rel=0.03)


def test_a_sum_of_nothing_has_no_length() -> None:
    with pytest.raises(ValueError, match="num_summed > 0"):
        noise_over_signal(noise_multiplier=1, num_parameters=10, num_summed=0)
