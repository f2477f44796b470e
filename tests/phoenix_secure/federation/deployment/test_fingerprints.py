"""Fingerprints as words: the published examples, every bit counts, and what a typist gets wrong."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.fingerprints import Fingerprint, proquint

DIGESTS = st.binary(min_size=32, max_size=32)


def read_proquint(word: str) -> int:
    """The slow way back, letter by letter, after the table in the paper."""
    value = 0
    for position, letter in enumerate(word):
        letters = "bdfghjklmnprstvz" if position % 2 == 0 else "aiou"
        value = value * len(letters) + letters.index(letter)
    return value


@pytest.mark.parametrize(
    ("address", "words"),
    # Source: arXiv:0901.4016, section 2.
    [
        ("127.0.0.1", "lusab-babad"),
        ("63.84.220.193", "gutih-tugad"),
        ("63.118.7.35", "gutuk-bisog"),
        ("140.98.193.141", "mudof-sakat"),
        ("64.255.6.200", "haguz-biram"),
        ("128.30.52.45", "mabiv-gibot"),
        ("147.67.119.2", "natag-lisaf"),
        ("212.58.253.68", "tibup-zujah"),
        ("216.35.68.215", "tobog-higil"),
        ("216.68.232.21", "todah-vobij"),
        ("198.81.129.136", "sinid-makam"),
        ("12.110.110.204", "budov-kuras"),
    ],
)
def test_words_are_those_of_the_paper(address: str, words: str) -> None:
    number = bytes(int(part) for part in address.split("."))
    halves = (int.from_bytes(number[:2]), int.from_bytes(number[2:]))
    assert "-".join(map(proquint, halves)) == words


def test_every_value_has_a_word_of_its_own() -> None:
    words = [proquint(value) for value in range(1 << 16)]
    assert len(set(words)) == 1 << 16
    assert [read_proquint(word) for word in words[::997]] == list(range(0, 1 << 16, 997))
    for value in (-1, 1 << 16):
        with pytest.raises(ValueError, match="expected an integer"):
            proquint(value)


@given(DIGESTS)
def test_eight_words_hold_the_first_128_bits(digest: bytes) -> None:
    words = Fingerprint(digest).words.split()
    assert b"".join(read_proquint(word).to_bytes(2) for word in words) == digest[:16]
    assert bytes.fromhex(Fingerprint(digest).hex) == digest


@given(DIGESTS, st.integers(0, 127))
def test_one_bit_makes_other_words(digest: bytes, bit: int) -> None:
    changed = bytearray(digest)
    changed[bit // 8] ^= 1 << bit % 8
    other = Fingerprint(bytes(changed))
    with pytest.raises(ConfigError, match=rf"number {bit // 16 + 1} of 8"):
        other.require(Fingerprint(digest).words, whose="clinic")


@given(DIGESTS)
def test_case_and_hyphens_do_not_count(digest: bytes) -> None:
    found = Fingerprint(digest)
    for typed in (found.words, found.words.upper(), f"  {found.words.replace(' ', '-')}\n"):
        found.require(typed, whose="clinic")


def test_label_and_borders_of_fields_are_part_of_it() -> None:
    made = Fingerprint.of(b"one/v1", b"ab", b"c")
    assert made != Fingerprint.of(b"two/v1", b"ab", b"c")
    assert made != Fingerprint.of(b"one/v1", b"a", b"bc")
    plain = b"\0\0\0\6one/v1\0\0\0\2ab\0\0\0\1c"
    assert made.digest == hashlib.sha256(plain).digest()
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprint(b"short")


@pytest.mark.parametrize(
    "typed", ["", "yes", "y", "lusab", "lusab " * 7, "lusab " * 9, "x" * 10_000]
)
def test_anything_but_eight_words_asks_for_them(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"expected 8 words .* ask clinic to read"):
        Fingerprint(bytes(32)).require(typed, whose="clinic")


def test_refusal_says_which_words_to_ask_for_again_and_never_the_right_ones() -> None:
    found = Fingerprint(hashlib.sha256(b"x").digest())
    words = found.words.split()
    typed = " ".join([words[0], "babab", *words[2:6], "queue", words[7]])
    with pytest.raises(ConfigError, match=r"number 2, 7 of 8\); number 7 is no such") as caught:
        found.require(typed, whose="clinic")
    assert not any(word in str(caught.value) for word in words)
