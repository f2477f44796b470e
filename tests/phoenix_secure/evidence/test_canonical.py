"""One value, one spelling."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abé😀"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_parsing_returns_the_value(value: object) -> None:
    assert parse_canonical(canonical(value)) == value


def test_the_example_of_the_rfc() -> None:
    value = {"numbers": [333333333.33333329, 1e30, 4.5, 2e-3, 1e-27], "literals": [None, True]}
    expected = b'{"literals":[null,true],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}'
    assert canonical(value) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e0}',
        b'"\\u0061"',
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b"[1]\n",
        b"1e400",
        b"9007199254740993",
        b"[" * 5000,
        b"[" * 100 + b"]" * 100,
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse_canonical(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1: 2}, b"x", {1, 2}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical(value)
