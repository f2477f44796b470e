"""Events: canonical, strict to read, and merging them changes no composition."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.privacy.events import (
    PoissonSampledGaussian,
    SkellamSum,
    event_from_dict,
    event_to_dict,
    merge,
    unit_of,
)

gaussians = st.builds(
    PoissonSampledGaussian,
    sampling_rate=st.floats(1e-6, 1.0),
    noise_multiplier=st.floats(0.1, 100.0),
    steps=st.integers(1, 1000),
    unit=st.sampled_from(["record", "group"]),
)
skellams = st.builds(
    SkellamSum,
    num_words=st.integers(1, 10**9),
    l2_sensitivity=st.floats(0.5, 1e9),
    variance=st.floats(0.5, 1e15),
    releases=st.integers(1, 1000),
)


@given(st.one_of(gaussians, skellams))
def test_event_survives_json(event) -> None:
    text = json.dumps(event_to_dict(event), sort_keys=True)
    assert event_from_dict(json.loads(text)) == event
    assert json.dumps(event_to_dict(event_from_dict(json.loads(text))), sort_keys=True) == text


@given(st.lists(st.one_of(gaussians, skellams), max_size=8), st.randoms(use_true_random=False))
def test_merging_depends_on_no_order_and_keeps_counts(events, random) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)
    assert merge(shuffled) == merge(events) == merge(merge(events))
    count = sum(getattr(e, "steps", getattr(e, "releases", 0)) for e in events)
    assert sum(getattr(e, "steps", getattr(e, "releases", 0)) for e in merge(events)) == count


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "unheard-of"},
        {"kind": None},
        {"kind": ["poisson-sampled-gaussian"]},
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"steps": "3"},
        {"unit": "patient"},
        {"unit": None},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": float("inf")},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.01},
        {"sampling_rate": None},
        {"extra": 1},
    ],
)
def test_malformed_event_is_refused(change: dict) -> None:
    event = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=3)
    with pytest.raises(ValueError, match="expected"):
        event_from_dict(event_to_dict(event) | change)


def test_missing_field_is_refused() -> None:
    event = event_to_dict(PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=3))
    del event["steps"]
    with pytest.raises(ValueError, match="exactly the fields"):
        event_from_dict(event)


def test_images_are_the_records_of_a_line_that_names_none_and_persons_say_so() -> None:
    """Ledgers from before there were persons keep their meaning, and their bytes."""
    of_images = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=3)
    of_persons = dataclasses.replace(of_images, unit="group")
    assert "unit" not in event_to_dict(of_images)
    assert event_to_dict(of_persons)["unit"] == "group"
    assert (unit_of(of_images), unit_of(of_persons)) == ("record", "group")
    assert len(merge([of_images, of_persons])) == 2
