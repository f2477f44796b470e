from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.data.percentiles import Percentiles, ValueCounts, as_window, window_of_texts
from phoenix_secure.errors import ConfigError, DataError

arrays = st.lists(
    st.lists(st.integers(-(2**17) + 1, 2**17 - 1), min_size=1, max_size=30), min_size=1, max_size=5
)


@given(arrays, st.sampled_from([0, 0.5, 1, 33.3, 50, 99, 100]))
@settings(max_examples=60, deadline=None)
def test_whole_numbers_have_numpys_percentiles_exactly(
    found: list[list[int]], percent: float
) -> None:
    counts = ValueCounts()
    for each in found:
        counts.add(np.array(each, np.int32))
    wanted = np.percentile(np.concatenate([np.array(each) for each in found]), percent)
    assert counts.percentile(percent) == pytest.approx(wanted, rel=1e-12, abs=1e-9)


def test_other_numbers_are_found_to_one_part_in_a_hundred_thousand() -> None:
    values = np.random.default_rng(0).normal(0, 1000, 50_000)
    counts = ValueCounts()
    for part in np.array_split(values, 7):
        counts.add(part)
    for percent in (1, 25, 99.9):
        assert counts.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=2e-5)


def test_a_set_of_one_value_has_no_window() -> None:
    counts = ValueCounts()
    with pytest.raises(DataError, match="no value"):
        counts.percentile(1)
    counts.add(np.full(9, 7))
    with pytest.raises(DataError, match=r"data\.window \[p1, p99\] is 7 at both ends"):
        counts.window(Percentiles(1, 99), name="set")


@pytest.mark.parametrize(
    ("setting", "window"),
    [(None, None), ((1, 2.5), (1.0, 2.5)), (("p1", "p99.5"), Percentiles(1, 99.5))],
)
def test_the_setting_is_two_numbers_or_two_percentiles(setting: object, window: object) -> None:
    assert as_window(setting) == window


@pytest.mark.parametrize("texts", [("p1", "99"), ("p99", "p1"), ("p1", "p101"), ("low", "high")])
def test_anything_else_is_refused(texts: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"data\.window must be two numbers"):
        window_of_texts(*texts)
    with pytest.raises(ConfigError, match="window"):
        load_config(None, ("data.name=npz", "data.path=x", f"data.window=[{texts[0]}, {texts[1]}]"))


def test_percentiles_are_refused_wherever_one_image_would_move_the_window() -> None:
    data = ("data.name=npz", "data.path=x", "data.window=[p1, p99]")
    assert load_config(None, data).data.window == ("p1", "p99")
    for own in (("privacy.unit=record", "privacy.epsilon=8"), ("data.split=keyed",)):
        with pytest.raises(ConfigError, match=r"data\.window .* two numbers"):
            load_config(None, (*data, *own))
