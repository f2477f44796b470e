"""Scalars and points as RFC 8032 writes them; whatever else is refused."""

import pytest

from protocol.group import (
    ORDER,
    difference,
    is_point,
    multiple,
    public_point,
    read_scalar,
    write_scalar,
)


def test_multiples_agree_with_plain_integers(oracles):
    for number in (1, 2, 12345, ORDER - 1, 3**150):
        expected = oracles.point_bytes(oracles.times(number % ORDER, oracles.BASE))
        assert public_point(write_scalar(number)) == expected
        assert is_point(expected)
    five = public_point(write_scalar(5))
    assert multiple(write_scalar(7), five) == public_point(write_scalar(35))
    assert difference(public_point(write_scalar(9)), five) == public_point(write_scalar(4))


def test_scalars_read_back_and_are_below_the_order():
    assert read_scalar(write_scalar(ORDER + 5)) == 5
    for bad in (ORDER.to_bytes(32, "little"), b"\xff" * 32, bytes(31), bytes(33), b""):
        assert read_scalar(bad) is None


@pytest.mark.parametrize("scalar", [bytes(32), b"", bytes(31)])
def test_zero_and_other_sizes_have_no_multiples(scalar):
    with pytest.raises(ValueError, match="expected a scalar"):
        public_point(scalar)
    with pytest.raises(ValueError, match="expected a scalar"):
        multiple(scalar, public_point(write_scalar(5)))


def test_what_is_no_point_has_no_multiples_and_no_difference():
    five = public_point(write_scalar(5))
    for bad in (bytes(32), (2).to_bytes(32, "little"), b"", bytes(33)):
        assert not is_point(bad)
        with pytest.raises(ValueError, match="points of the subgroup"):
            multiple(write_scalar(5), bad)
    with pytest.raises(ValueError, match="points of the subgroup"):
        difference(five, (2).to_bytes(32, "little"))
