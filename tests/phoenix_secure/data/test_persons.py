"""Persons are found by their numbers, and nobody is nobody's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.persons import Persons, persons_of
from phoenix_secure.errors import DataError


@given(st.lists(st.integers(-3, 5), max_size=30))
def test_persons_are_those_of_a_loop(numbers: list[int]) -> None:
    groups = np.array(numbers, np.int64)
    expected = [np.flatnonzero(groups == number).tolist() for number in sorted(set(numbers))]
    persons = Persons(groups)
    assert [images.tolist() for images in persons] == expected
    assert len(persons) == len(expected)


def test_images_that_do_not_say_whose_they_are_are_refused() -> None:
    with pytest.raises(DataError, match=r"set data\.group"):
        persons_of(None, num_images=1)
    assert len(persons_of(None, num_images=0)) == 0  # as a site with one person may become
    with pytest.raises(IndexError):
        persons_of(None, num_images=0)[0]
