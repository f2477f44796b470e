"""One value, one encoding; every other byte string is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding import Reader, encode, encode_float, encode_text, encode_uint
from protocol.errors import Misbehaviour, RemoteProtocolError


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_reading_gives_back_what_was_encoded(fields):
    reader = Reader(encode(fields), peer="a")
    assert [bytes(reader.view("f", max_size=40)) for _ in fields] == fields
    reader.finish()


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_encoding_is_injective(left, right):
    assert (encode(left) == encode(right)) == (left == right)


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.data())
def test_every_truncation_is_refused(fields, data):
    whole = encode(fields)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    reader = Reader(cut, peer="a")

    def read_all():
        for _ in fields:
            reader.view("f", max_size=9)

    with pytest.raises(RemoteProtocolError):
        read_all()


def test_a_length_beyond_the_data_is_refused_before_any_allocation():
    reader = Reader(b"\xff\xff\xff\xff" + b"x", peer="a")
    with pytest.raises(RemoteProtocolError, match="truncated"):
        reader.view("f", max_size=1 << 33)


def test_a_length_above_the_limit_is_refused():
    with pytest.raises(RemoteProtocolError, match="wrong length"):
        Reader(encode([b"12345"]), peer="a").view("f", max_size=4)


def test_leftover_bytes_are_refused():
    reader = Reader(encode([b"a"]) + b"\x00", peer="a")
    reader.view("f", max_size=1)
    with pytest.raises(RemoteProtocolError, match="after the last field"):
        reader.finish()


def test_more_items_than_allowed_are_refused():
    reader = Reader(encode([encode([b"a", b"b", b"c"])]), peer="a")
    with pytest.raises(RemoteProtocolError, match="too many"):
        reader.items("l", lambda r: r.exact("i", size=1), max_items=2, max_size=100)


def test_lists_come_back_in_order():
    reader = Reader(encode([encode([b"b", b"a"])]), peer="a")
    read = reader.items("l", lambda r: r.exact("i", size=1), max_items=2, max_size=100)
    assert read == [b"b", b"a"]


@given(st.integers(0, 2**64 - 1))
def test_integers_come_back(value):
    assert Reader(encode([encode_uint(value)]), peer="a").uint("i") == value


def test_integers_out_of_range_are_refused():
    for value in (-1, 2**64):
        with pytest.raises(ValueError, match="expected an integer"):
            encode_uint(value)
    with pytest.raises(RemoteProtocolError, match="too large"):
        Reader(encode([encode_uint(5)]), peer="a").uint("i", max_value=4)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back(value):
    assert Reader(encode([encode_float(value)]), peer="a").real("x") == value


@pytest.mark.parametrize("raw", ["7ff0000000000000", "7ff8000000000001", "8000000000000000"])
def test_infinity_nan_and_minus_zero_are_refused(raw):
    with pytest.raises(RemoteProtocolError, match="canonical"):
        Reader(encode([bytes.fromhex(raw)]), peer="a").real("x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_floats_are_not_encoded(value):
    with pytest.raises(ValueError, match="finite"):
        encode_float(value)


@pytest.mark.parametrize("text", ["", "a" * 65, "a b", "a\n", "é", "-a", "../a", "a\x00"])
def test_bad_ids_are_refused_both_ways(text):
    with pytest.raises(ValueError, match="expected an id"):
        encode_text(text)
    with pytest.raises(RemoteProtocolError):
        Reader(encode([text.encode()]), peer="a").text("id")


def test_a_fault_names_peer_and_field_but_not_the_content():
    with pytest.raises(RemoteProtocolError) as caught:
        Reader(encode([b"secret-bytes"]), peer="site-3").exact("seed", size=4)
    assert caught.value.peer == "site-3"
    assert caught.value.reason is Misbehaviour.MALFORMED
    assert "seed" in str(caught.value)
    assert "secret" not in str(caught.value)
