"""The seed tree: streams depend on what they are for, and on nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.rng import SeedTree

names = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 999)), min_size=1, max_size=4)


@pytest.mark.long
@given(st.integers(0, 2**63 - 1), names, names)
def test_different_paths_never_share_a_stream(seed: int, one: list, two: list) -> None:
    same_path = [(type(n), n) for n in one] == [(type(n), n) for n in two]
    root = SeedTree(seed)
    assert (root.child(*one).entropy() == root.child(*two).entropy()) == same_path


def test_names_are_neither_joined_nor_mixed_with_numbers() -> None:
    root = SeedTree(0)
    paths = [("ab", "c"), ("a", "bc"), ("1",), (1,), ("1", ""), ("a|s2:bc",)]
    assert len({root.child(*path).entropy() for path in paths}) == len(paths)


def test_generators_repeat_and_do_not_touch_global_state() -> None:
    import torch

    before = torch.random.get_rng_state()
    first = torch.randn(4, generator=SeedTree(5).child("x").torch())
    second = torch.randn(4, generator=SeedTree(5).child("x").torch())
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
