"""The model as one vector: an exact round trip, and no way to load something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phoenix_secure.training.parameters import load_vector, to_vector


def small_network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GroupNorm(2, 4))


def test_vector_round_trip_is_exact() -> None:
    network = small_network()
    vector = np.linspace(-3, 3, 4 * 3 + 4 + 4 + 4, dtype=np.float32)
    load_vector(network, vector)
    np.testing.assert_array_equal(to_vector(network), vector)
    assert network[0].weight[1, 2].item() == vector[5]


def test_vector_is_a_copy() -> None:
    network = small_network()
    vector = to_vector(network)
    vector[:] = 7
    assert not np.array_equal(to_vector(network), vector)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(23, np.float32),
        np.zeros(25, np.float32),
        np.zeros(24, np.float64),
        np.zeros((24, 1), np.float32),
        np.full(24, np.nan, np.float32),
        np.full(24, np.inf, np.float32),
    ],
)
def test_wrong_vector_is_refused_and_changes_nothing(vector: np.ndarray) -> None:
    network = small_network()
    before = to_vector(network)
    with pytest.raises(ValueError, match="expected"):
        load_vector(network, vector)
    np.testing.assert_array_equal(to_vector(network), before)
