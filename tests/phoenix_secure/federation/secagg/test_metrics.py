"""Metrics as words: sums of any sites decode to the sums of their numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.federation.secagg.metrics import MetricWords

SITE = st.tuples(
    st.integers(1, 3000),  # images
    st.integers(1, 5000),  # steps
    st.floats(0, 5000),  # loss
    st.booleans(),
    st.booleans(),
)


@given(st.lists(SITE, min_size=1, max_size=40), st.integers(6, 26), st.integers(1, 2500))
def test_sums_decode_to_the_sums_over_sites(sites, digit_bits: int, max_images: int) -> None:
    words = MetricWords(digit_bits=digit_bits, max_images=max_images)
    encoded = [
        words.encode_failure()
        if failed
        else words.encode(num_images=n, num_steps=s, loss=loss, clipped=clipped)
        for n, s, loss, clipped, failed in sites
    ]
    for one in encoded:
        assert all(0 <= v <= b for v, b in zip(one, words.bounds, strict=True))
    sums = [sum(column) for column in zip(*encoded, strict=True)]
    found = words.decode(sums, num_sites=len(sites))
    trained = [site for *site, failed in sites if not failed]
    counted = [min(n, max_images) for n, *_ in trained]
    assert found.num_images == sum(counted)
    assert found.num_steps == sum(s for _, s, *_ in trained)
    assert found.num_clipped == sum(clipped for *_, clipped in trained)
    assert found.num_failed == len(sites) - len(trained)
    expected = sum(n * min(loss, 4096) for n, (*_, loss, _) in zip(counted, trained, strict=True))
    # Each site's product is rounded to half a step of 2^-20, in units of max_images.
    assert found.weighted_loss == pytest.approx(
        expected, rel=1e-12, abs=len(sites) * max_images * 2**-21 * 1.001
    )
    if trained:
        assert found.loss == found.weighted_loss / found.num_images


def test_bounds_leave_no_word_wider_than_a_digit() -> None:
    words = MetricWords(digit_bits=7, max_images=1000)
    assert words.bounds[:2] == (127, 1000 >> 7)
    assert max(words.bounds) == 127
    assert words.bounds[-2:] == (1, 1)


@pytest.mark.parametrize(
    "wrong", [{"num_images": 0}, {"num_steps": 0}, {"loss": math.nan}, {"loss": math.inf}]
)
def test_numbers_that_no_training_gives_are_refused(wrong: dict) -> None:
    good = {"num_images": 3, "num_steps": 2, "loss": 0.5, "clipped": False}
    with pytest.raises(ValueError, match="expected at least one"):
        MetricWords(digit_bits=20, max_images=8).encode(**(good | wrong))


@pytest.mark.parametrize(
    "sums",
    [
        (2, 2),  # too few words
        (0, 5, 0, 0, 0, 0, 0),  # no image
        (1, 5, 0, 0, 0, 0, 0),  # fewer images than sites
        (-1, 5, 0, 0, 0, 0, 0),
        (17, 5, 0, 0, 0, 0, 0),  # more images than two sites may say
        (8, 1, 0, 0, 0, 0, 0),  # fewer steps than sites
        (8, 5, 0, 0, 0, 3, 0),  # more clipped updates than sites
        (8, 5, 0, 5, 8192, 0, 0),  # digits within bounds, the number not
        (8, 5, 0, 0, 0, 0, 3),  # more failures than sites
        (9, 5, 0, 0, 0, 0, 1),  # more images than the one site that trained may say
        (8, 5, 0, 0, 0, 2, 1),  # more clipped updates than sites that trained
        (0, 0, 1, 0, 0, 0, 2),  # a loss, and nobody trained
    ],
)
def test_sums_that_no_sites_could_send_are_refused(sums: tuple[int, ...]) -> None:
    words = MetricWords(digit_bits=20, max_images=8)
    assert len(words.bounds) == 7
    with pytest.raises(ValueError, match="expected"):
        words.decode(sums, num_sites=2)


def test_larger_site_counts_as_the_public_bound() -> None:
    words = MetricWords(digit_bits=20, max_images=100)
    assert [words.weight(n) for n in (1, 50, 100, 101, 10_000)] == [0.01, 0.5, 1, 1, 1]
