"""Fingerprints of keys, as words that people read to each other by telephone.

A word is 16 bits: consonant, vowel, consonant, vowel, consonant. It needs no list of words, and
speakers of most languages can say it. Whoever hears badly spells it: ``b`` as in Bravo.

A fingerprint has eight words, which are 128 bits:

* Somebody on the way who wants other keys under the same words makes about 2^128 keys. With 64
  bits it would be 2^64, one point addition and one hash each: some hundred years of one graphics
  card, hence money and not time.
* Somebody who makes *both* sides, two rosters for two sites, needs two of equal words: about 2^64
  trials with 128 bits, and 2^32, a minute, with 64.

Source: Wilkerson, "A Proposal for Proquints: Identifiers that are Readable, Spellable, and
Pronounceable", arXiv:0901.4016.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from phoenix_secure.errors import ConfigError
from protocol.encoding import encode

__all__ = ["NUM_WORDS", "Fingerprint", "proquint"]

NUM_WORDS = 8
_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
_LETTERS = re.compile(rf"(?:[{_CONSONANTS}][{_VOWELS}]){{2}}[{_CONSONANTS}]")
_MAX_TYPED = 400  # characters that are looked at


def proquint(value: int) -> str:
    """16 bits as a word of five letters.

    >>> proquint(0x7F00), proquint(0x0001)
    ('lusab', 'babad')
    """
    if not 0 <= value < 1 << 16:
        raise ValueError("expected an integer in [0, 2**16)")
    return "".join(
        (
            _CONSONANTS[value >> 12],
            _VOWELS[value >> 10 & 3],
            _CONSONANTS[value >> 6 & 15],
            _VOWELS[value >> 4 & 3],
            _CONSONANTS[value & 15],
        )
    )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The SHA-256 of something public that people compare before they trust it."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != 32:
            raise ValueError("expected a digest of 32 bytes")

    @classmethod
    def of(cls, label: bytes, *fields: bytes) -> Fingerprint:
        """The fingerprint of ``fields`` under a constant label."""
        return cls(hashlib.sha256(encode([label, *fields])).digest())

    @property
    def words(self) -> str:
        """The first 128 bits, as eight words."""
        return " ".join(
            proquint(int.from_bytes(self.digest[i : i + 2])) for i in range(0, 2 * NUM_WORDS, 2)
        )

    @property
    def hex(self) -> str:
        """All 256 bits: 16 groups of 4 hexadecimal digits."""
        digits = self.digest.hex()
        return " ".join(digits[i : i + 4] for i in range(0, 64, 4))

    def require(self, heard: str, *, whose: str) -> None:
        """Refuse words that are not exactly these; case, hyphens and spaces do not count.

        The message says which words differ, so that they can be asked for again. It does not show
        the right ones: they are to come from ``whose`` telephone call, not from here.

        Raises:     ConfigError.
        """
        given = re.split(r"[\s,-]+", heard[:_MAX_TYPED].strip().lower())
        if len(given) != NUM_WORDS:
            number = 0 if given == [""] else len(given)
            raise ConfigError(
                f"expected {NUM_WORDS} words of five letters, got {number}: ask {whose} to read "
                "the words by telephone, and type them as you hear them"
            )
        wanted = self.words.split()
        pairs = enumerate(zip(given, wanted, strict=True), start=1)
        wrong = [(number, word) for number, (word, right) in pairs if word != right]
        if not wrong:
            return
        numbers = ", ".join(str(number) for number, _ in wrong)
        unsaid = [number for number, word in wrong if not _LETTERS.fullmatch(word)]
        hint = f"; number {unsaid[0]} is no such word (letters b-a-b-a-b)" if unsaid else ""
        raise ConfigError(
            f"the words are not those of {whose} (number {numbers} of {NUM_WORDS}){hint}: ask "
            "again by telephone; if they still differ, the file was changed on its way or is "
            "somebody else's: do not use it"
        )
