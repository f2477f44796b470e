"""Personal models are judged by images of their own site's kind."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_modules import benchmark_module


@pytest.fixture(scope="module")
def personalization() -> Iterator[ModuleType]:
    with benchmark_module("personalization") as found:
        yield found


@given(own=st.lists(st.sampled_from([0, 3, 7]), min_size=1), seed=st.integers(0, 99))
def test_judged_by_classes_of_the_site_alone_and_never_twice_by_one_image(
    personalization: ModuleType, own: list[int], seed: int
) -> None:
    held_out = np.repeat(np.arange(10), 60)
    rng = np.random.default_rng(seed)
    places = personalization.images_like(np.array(own), of=held_out, rng=rng, size=50)
    assert set(held_out[places]) <= set(own)
    assert len(set(places)) == 50


def test_shares_of_classes_are_the_sites(personalization: ModuleType) -> None:
    own, held_out = np.array([2] * 900 + [5] * 100), np.repeat(np.arange(10), 900)
    places = personalization.images_like(own, of=held_out, rng=np.random.default_rng(1), size=1000)
    assert np.mean(held_out[places] == 5) == pytest.approx(0.1, abs=0.03)


def test_the_worst_site_is_named(personalization: ModuleType) -> None:
    given = argparse.Namespace(dataset="mnist", split="shards", seed=2)
    row = personalization.row_of("global", {"site-01": 1.0, "site-02": 4.0}, given=given)
    assert (row["kid_mean"], row["kid_worst"], row["worst_site"]) == (2.5, 4.0, "site-02")
    assert row["command"].endswith("--dataset mnist --split shards --seed 2")
