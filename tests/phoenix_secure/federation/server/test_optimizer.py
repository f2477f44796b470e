"""Server optimizers against the algorithms written out coordinate by coordinate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phoenix_secure.config import FederationConfig
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.round.step import server_step
from phoenix_secure.federation.server.optimizer import mean_update

UPDATES = [np.array([0.3, -0.02, 0.0]), np.array([-0.1, 0.05, 0.4]), np.array([0.2, 0.2, -0.3])]


def oracle(name: str, *, eta: float, beta1: float, beta2: float, tau: float) -> list[float]:
    """Reddi et al. (2021), Algorithm 2, and Hsu et al. (2019), for one coordinate at a time."""
    result = []
    for coordinate in range(3):
        x, m, v = 1.0, 0.0, tau**2
        for update in UPDATES:
            delta = float(update[coordinate])
            if name == "fedavg":
                x += eta * delta
                continue
            if name == "fedavgm":
                m = beta1 * m + delta
                x += eta * m
                continue
            m = beta1 * m + (1 - beta1) * delta
            if name == "fedadam":
                v = beta2 * v + (1 - beta2) * delta**2
            else:
                sign = (v > delta**2) - (v < delta**2)
                v = v - (1 - beta2) * delta**2 * sign
            x += eta * m / (math.sqrt(v) + tau)
        result.append(x)
    return result


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam", "fedyogi"])
def test_three_rounds_are_the_papers(name: str) -> None:
    settings = FederationConfig(
        server_optimizer=name,
        server_learning_rate=0.5,
        server_momentum=0.9,
        server_beta2=0.95,
        server_tau=0.01,
    )
    state = ServerState.initial(np.ones(3, np.float32), federation=settings)
    x, m, v = state.parameters, state.momentum, state.second_moment
    for update in UPDATES:
        x, m, v = server_step(settings, update, parameters=x, momentum=m, second_moment=v)
    expected = oracle(name, eta=0.5, beta1=0.9, beta2=0.95, tau=0.01)
    np.testing.assert_allclose(x, expected, rtol=2e-6)
    assert (x.dtype, m.dtype, v.dtype) == (np.float32,) * 3


def test_unused_moments_take_no_room() -> None:
    sizes = {
        name: (
            ServerState.initial(
                np.zeros(5, np.float32), federation=FederationConfig(server_optimizer=name)
            )
        )
        for name in ("fedavg", "fedavgm", "fedadam")
    }
    assert [s.momentum.size for s in sizes.values()] == [0, 5, 5]
    assert [s.second_moment.size for s in sizes.values()] == [0, 0, 5]


def test_mean_is_weighted_by_images() -> None:
    deltas = [np.array([1.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)]
    np.testing.assert_array_equal(mean_update(deltas, [3, 1]), [0.75, 1.0])


def test_mean_of_one_site_is_that_site() -> None:
    delta = np.array([0.1, -0.7], np.float32)
    np.testing.assert_array_equal(mean_update([delta], [17]), delta.astype(np.float64))


@pytest.mark.parametrize(
    ("deltas", "weights"), [([], []), ([np.zeros(2)], [0.0]), ([np.zeros(2)], [1, 2])]
)
def test_mean_of_nothing_is_refused(deltas: list, weights: list) -> None:
    with pytest.raises(ValueError, match="expected"):
        mean_update(deltas, weights)
