from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from phoenix_secure.data.partition_schemes import (
    dirichlet,
    iid,
    label_shards,
    largest_remainder,
    quantity_skew,
)
from phoenix_secure.errors import ConfigError, DataError

Parts = list[np.ndarray]
labels_st = st.lists(st.integers(0, 6), min_size=20, max_size=200).map(np.array)
seeds_st = st.integers(0, 2**32)
alphas_st = st.floats(1e-3, 1e4)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_deals_out(parts: Sequence[np.ndarray], *, num_images: int, num_sites: int) -> None:
    assert len(parts) == num_sites
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    together = np.sort(np.concatenate(parts))
    assert np.array_equal(together, np.arange(num_images))


def assert_repeats(deal: Callable[[np.random.Generator], Parts], seed: int) -> Parts:
    first, second = deal(rng(seed)), deal(rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    return first


@given(st.integers(1, 500), st.data(), seeds_st)
def test_iid_deals_out_evenly(num_images: int, data: st.DataObject, seed: int) -> None:
    num_sites = data.draw(st.integers(1, num_images))
    parts = assert_repeats(lambda r: iid(num_images, num_sites=num_sites, rng=r), seed)
    assert_deals_out(parts, num_images=num_images, num_sites=num_sites)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(labels_st, st.integers(1, 6), alphas_st, st.integers(1, 3), seeds_st)
def test_dirichlet_deals_out_with_its_minimum(
    labels: np.ndarray, num_sites: int, alpha: float, minimum: int, seed: int
) -> None:
    def deal(r: np.random.Generator) -> Parts:
        return dirichlet(
            labels, num_sites=num_sites, alpha=alpha, rng=r, min_images_per_site=minimum
        )

    try:
        parts = assert_repeats(deal, seed)
    except DataError as error:
        # Only a very skewed draw may fail, and then it says which settings to change.
        message = str(error)
    else:
        assert_deals_out(parts, num_images=labels.size, num_sites=num_sites)
        assert min(map(len, parts)) >= minimum
        return
    assert alpha < 1
    assert all(word in message for word in (f"alpha={alpha}", "num_sites", "min_images_per_site"))


@given(labels_st, st.integers(1, 5), st.integers(1, 4), seeds_st)
def test_label_shards_deals_out_whole_shards(
    labels: np.ndarray, num_sites: int, shards_per_site: int, seed: int
) -> None:
    parts = assert_repeats(
        lambda r: label_shards(labels, num_sites=num_sites, shards_per_site=shards_per_site, rng=r),
        seed,
    )
    assert_deals_out(parts, num_images=labels.size, num_sites=num_sites)
    shard = labels.size / (num_sites * shards_per_site)
    for part in parts:
        assert np.floor(shard) * shards_per_site <= len(part) <= np.ceil(shard) * shards_per_site


@given(st.integers(20, 500), st.integers(1, 10), alphas_st, st.integers(1, 2), seeds_st)
def test_quantity_skew_deals_out_with_its_minimum(
    num_images: int, num_sites: int, alpha: float, minimum: int, seed: int
) -> None:
    parts = assert_repeats(
        lambda r: quantity_skew(
            num_images, num_sites=num_sites, alpha=alpha, rng=r, min_images_per_site=minimum
        ),
        seed,
    )
    assert_deals_out(parts, num_images=num_images, num_sites=num_sites)
    assert min(map(len, parts)) >= minimum


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=5),
    st.integers(1, 20),
    st.floats(1e-3, 100),
    seeds_st,
)
def test_largest_remainder_keeps_totals_and_quotas(
    totals: list[int], num_sites: int, alpha: float, seed: int
) -> None:
    shares = rng(seed).dirichlet(np.full(num_sites, alpha), size=len(totals))
    counts = largest_remainder(np.array(totals), shares)
    assert counts.sum(axis=1).tolist() == totals
    assert (np.abs(counts - np.array(totals)[:, np.newaxis] * shares) < 1 + 1e-9).all()


def test_largest_remainder_agrees_with_rounding_by_hand() -> None:
    def by_hand(total: int, row: list[float]) -> list[int]:
        counts = [int(total * share) for share in row]
        while sum(counts) < total:
            gaps = [total * s - c for s, c in zip(row, counts, strict=True)]
            counts[gaps.index(max(gaps))] += 1
        return counts

    shares = rng(3).dirichlet(np.ones(7), size=200)
    totals = rng(4).integers(0, 100, size=200)
    expected = [by_hand(int(n), row) for n, row in zip(totals, shares.tolist(), strict=True)]
    assert largest_remainder(totals, shares).tolist() == expected


@pytest.mark.parametrize("shares", [[[0.5, 0.4]], [[np.nan, 1.0]], [[np.inf, 0.0]]])
def test_largest_remainder_refuses_shares_that_do_not_sum_to_one(shares: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        largest_remainder(np.array([10]), np.array(shares))


def test_dirichlet_shares_follow_the_dirichlet_distribution() -> None:
    """A share of a Dirichlet_K(alpha) vector is Beta(alpha, (K - 1) alpha) distributed."""
    labels = np.repeat(np.arange(400), 2000)
    parts = dirichlet(labels, num_sites=4, alpha=0.5, rng=rng(1))
    shares = np.bincount(labels[parts[0]], minlength=400) / 2000
    assert stats.kstest(shares, stats.beta(0.5, 1.5).cdf).pvalue > 0.01
    # The test has teeth: twice the alpha is told apart.
    assert stats.kstest(shares, stats.beta(1.0, 3.0).cdf).pvalue < 1e-6


def test_dirichlet_goes_from_one_class_per_site_to_equal_mixtures() -> None:
    labels = np.repeat(np.arange(10), 500)
    skewed = dirichlet(labels, num_sites=5, alpha=0.01, rng=rng(), min_images_per_site=10)
    even = dirichlet(labels, num_sites=5, alpha=1e6, rng=rng())
    for part in even:
        assert np.abs(np.bincount(labels[part], minlength=10) - 100).max() <= 2
    dominant = [np.bincount(labels[part], minlength=10) for part in skewed]
    held_by_one = np.max(dominant, axis=0) / 500
    assert np.median(held_by_one) > 0.99


def test_label_shards_gives_each_site_few_classes() -> None:
    labels = rng().permutation(np.repeat(np.arange(10), 100))
    parts = label_shards(labels, num_sites=10, shards_per_site=2, rng=rng(5))
    assert all(len(np.unique(labels[part])) <= 2 for part in parts)
    assert all(len(part) == 100 for part in parts)


def test_label_shards_mixes_images_within_one_label() -> None:
    labels = np.zeros(1000, dtype=np.int64)
    first, _ = label_shards(labels, num_sites=2, shards_per_site=1, rng=rng(5))
    assert 400 < np.mean(first) < 600


def test_quantity_skew_grows_as_alpha_falls() -> None:
    def spread(alpha: float) -> float:
        parts = quantity_skew(10_000, num_sites=10, alpha=alpha, rng=rng(2))
        return float(np.std([len(part) for part in parts]))

    assert spread(0.1) > 3 * spread(10) > 3 * spread(10_000)


def test_different_seeds_deal_differently() -> None:
    labels = np.repeat(np.arange(10), 50)
    for deal in (
        lambda r: iid(500, num_sites=5, rng=r),
        lambda r: dirichlet(labels, num_sites=5, alpha=1.0, rng=r),
        lambda r: label_shards(labels, num_sites=5, shards_per_site=2, rng=r),
        lambda r: quantity_skew(500, num_sites=5, alpha=1.0, rng=r),
    ):
        assert not np.array_equal(deal(rng(1))[0], deal(rng(2))[0])


def test_labels_may_be_any_integers() -> None:
    labels = np.array([7, -3, 7, 1000] * 10, dtype=np.int16)
    assert_deals_out(
        dirichlet(labels, num_sites=2, alpha=1.0, rng=rng()), num_images=40, num_sites=2
    )


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1e-9, np.nan, np.inf])
def test_alpha_out_of_range_is_named(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        dirichlet(np.arange(10), num_sites=2, alpha=alpha, rng=rng())
    with pytest.raises(ConfigError, match="alpha"):
        quantity_skew(10, num_sites=2, alpha=alpha, rng=rng())


@pytest.mark.parametrize("num_sites", [0, -2, 1.5, True])
def test_num_sites_out_of_range_is_named(num_sites: int) -> None:
    with pytest.raises(ConfigError, match="num_sites"):
        iid(10, num_sites=num_sites, rng=rng())


def test_too_few_images_are_refused_by_every_scheme() -> None:
    labels = np.arange(5)
    with pytest.raises(DataError, match="5 images cannot give 6 sites"):
        iid(5, num_sites=6, rng=rng())
    with pytest.raises(DataError, match="min_images_per_site"):
        dirichlet(labels, num_sites=3, alpha=1.0, rng=rng(), min_images_per_site=2)
    with pytest.raises(DataError, match="shards_per_site"):
        label_shards(labels, num_sites=3, shards_per_site=2, rng=rng())
    with pytest.raises(DataError, match="min_images_per_site"):
        quantity_skew(5, num_sites=3, alpha=1.0, rng=rng(), min_images_per_site=2)


@pytest.mark.parametrize("labels", [[], [[0, 1]], [0.5, 1.5], ["cat", "dog"]])
def test_labels_of_another_type_are_refused(labels: list[object]) -> None:
    with pytest.raises(DataError, match="labels"):
        dirichlet(labels, num_sites=1, alpha=1.0, rng=rng())


def test_a_minimum_that_no_draw_meets_names_the_settings_and_does_not_hang() -> None:
    labels = np.repeat(np.arange(10), 6000)
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"alpha=0\.001") as caught:
        dirichlet(labels, num_sites=50, alpha=0.001, rng=rng(), min_images_per_site=100)
    assert "min_images_per_site=100" in str(caught.value)
    assert "50 sites" in str(caught.value)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("num_sites", [5, 50])
def test_60_000_labels_are_dealt_in_well_under_half_a_second(num_sites: int) -> None:
    labels = rng().integers(0, 10, size=60_000)
    for deal in (
        lambda: dirichlet(labels, num_sites=num_sites, alpha=0.3, rng=rng()),
        lambda: label_shards(labels, num_sites=num_sites, shards_per_site=2, rng=rng()),
        lambda: iid(60_000, num_sites=num_sites, rng=rng()),
        lambda: quantity_skew(60_000, num_sites=num_sites, alpha=0.3, rng=rng()),
    ):
        times = []
        for _ in range(3):
            started = time.process_time()
            deal()
            times.append(time.process_time() - started)
        assert min(times) < 0.5
