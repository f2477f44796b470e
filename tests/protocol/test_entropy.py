"""Entropy comes from the operating system, or from a counter that tests can repeat."""

import pytest

from protocol.entropy import draw, insecure_counter_entropy, os_entropy
from protocol.errors import LocalProtocolError


def test_the_counter_repeats_for_one_seed_and_differs_between_seeds_and_calls():
    first, again = insecure_counter_entropy(b"a"), insecure_counter_entropy(b"a")
    other = insecure_counter_entropy(b"b")
    drawn = [first(40), first(40)]
    assert drawn == [again(40), again(40)]
    assert len({*drawn, other(40)}) == 3
    assert all(len(value) == 40 for value in drawn)


def test_the_system_source_never_repeats():
    assert len({draw(os_entropy, 32) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("bad", [b"", b"short", b"x" * 33, "x" * 32, None])
def test_a_source_that_returns_something_else_is_refused(bad):
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        draw(lambda _: bad, 32)
