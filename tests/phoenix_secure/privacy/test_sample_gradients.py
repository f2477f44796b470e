"""Norms are right to what clipping leaves room for; sums are those of whole gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.privacy.sample_gradients import (
    Instantiated,
    Recomputed,
    SampleGradient,
    Space,
    squared_norms,
    weighted_sums,
)

ROOM = 1e-5  # by which clip_factor stays below the clip norm


def gradients(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_error(found: torch.Tensor, values: torch.Tensor) -> float:
    expected = values.double().flatten(1).square().sum(1).sqrt()
    return float((found.sqrt() / expected - 1).abs().max())


@given(
    size=st.integers(2, 200_000),
    value=st.floats(1e-3, 1e3),
    other=st.floats(0, 1e3),
)
def test_the_norm_of_alike_entries_is_right_to_half_of_the_room(
    size: int, value: float, other: float
) -> None:
    """Alike entries are the worst case: all sums are rounded to the same side."""
    values = torch.full((1, size), value)
    values[:, ::3] = other
    assert relative_error(Instantiated(values).squares(), values) < ROOM / 2


def test_a_librarys_norm_of_alike_entries_would_break_the_bound() -> None:
    """The must-fail case: crafted weights make gradients alike, and n images share the error."""
    values = torch.full((1, 590_000), 1.0000001) * 0.37
    library = torch.linalg.vector_norm(values, dim=1).double().square()
    assert relative_error(library, values) > 10 * ROOM
    assert relative_error(Instantiated(values).squares(), values) < ROOM / 2


@given(
    sizes=st.lists(st.sampled_from([1, 3, 128, 1024, 1025, 5000]), min_size=1, max_size=5),
    num=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_norms_and_sums_of_several_parameters_are_those_of_one_vector(
    sizes: list[int], num: int, seed: int
) -> None:
    whole = {str(i): gradients(num, size, seed=seed + i) for i, size in enumerate(sizes)}
    samples: dict[str, SampleGradient] = {
        name: Recomputed(lambda v=values: Instantiated(v)) if name == "1" else Instantiated(values)
        for name, values in whole.items()
    }
    factor = torch.rand(num, dtype=torch.float64)
    flat = torch.cat(list(whole.values()), dim=1).double()
    torch.testing.assert_close(squared_norms(samples), flat.square().sum(1), rtol=ROOM, atol=0)
    found = weighted_sums(samples, factor)
    for name, values in whole.items():
        torch.testing.assert_close(found[name], factor @ values.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num", [1, 3])
def test_any_order_in_memory_gives_the_gradients_of_the_parameter(num: int) -> None:
    values = gradients(num, 2, 5, 4)  # of a parameter (4, 2, 5)
    sample = Instantiated(values, order=(0, 3, 1, 2), shape=(4, 2, 5))
    expected = values.permute(0, 3, 1, 2)
    assert torch.equal(sample.instantiated(), expected)
    factor = torch.rand(num, dtype=torch.float64)
    found = sample.weighted_sum(factor)
    torch.testing.assert_close(found, torch.einsum("n,nabc->abc", factor, expected.double()))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("size", [7, 5000])
def test_what_has_factor_zero_adds_nothing_whatever_it_is(broken: float, size: int) -> None:
    values = gradients(3, size)
    factor = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    expected = Instantiated(values).weighted_sum(factor)
    values = values.clone()
    values[1] = broken
    assert torch.equal(Instantiated(values).weighted_sum(factor), expected)


def test_space_is_used_again_and_says_so() -> None:
    space = Space()
    one = Instantiated(space.like(torch.zeros(1), 2, 3).fill_(1))
    assert float(one.weighted_sum(torch.ones(2).double()).sum()) == 6
    again = space.like(torch.zeros(1), 2, 3).fill_(2)
    assert float(again.sum()) == 12
    for use in (one.instantiated, lambda: one.weighted_sum(torch.ones(2).double())):
        with pytest.raises(RuntimeError, match="written over"):
            use()
    assert space.like(torch.zeros(1).double(), 2, 3).dtype == torch.float64
