"""Everything that one attempt at one round is about, and the context hash that binds it.

The server announces a ``RoundSpec``; each site holds it against its own policy. Its hash ``ctx``
goes into every key, commitment and signature of the attempt, so two sites that were told
different things compute masks that do not cancel.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass

from protocol import labels
from protocol.encoding import Reader, encode, encode_float, encode_text, encode_uint
from protocol.parameters import MIN_CLIENTS, skellam_tail
from protocol.suite import Suite
from protocol.words import WORD_BITS

__all__ = ["MAX_COHORT", "MAX_WORDS", "RoundSpec"]

MAX_COHORT = 16_384
# At 32 bits a 4 GB upload, still below the u32 length of a field.
MAX_WORDS = 1_000_000_000
MAX_EXTRA_WORDS = 1024
HASH_SIZE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundSpec:
    """The parameters of one attempt at one round.

    cohort           site ids, sorted; Shamir points are their places, from 1
    model_hash       SHA-256 of the exact bytes of the model that is trained on
    previous         transcript hash of the round before, 32 zero bytes for the first
    num_words        d, the model's words; ``extra_bounds`` follow it in the same vector, one word
                     each (weight, metrics), with the largest absolute value a site may put there
    word_bits        b, bits per word on the wire and in the sum
    scale, clip      fixed point: a site's word is at most ceil(scale * clip) in absolute value
    threshold        t, shares that rebuild a secret
    quorum           sites that must survive each stage, and signatures that unlock the sum
    num_colluders    c, sites that may work with the server without harm; 0 in cohorts below five
                     alone
    degree           neighbours on the k-regular graph; 0 is the complete graph
    noise_variance   variance of the integer noise that each site adds to each model word
    privacy_hash     SHA-256 of the differential-privacy parameters
    policy_hash      SHA-256 of the federation's training policy that all sites approved
    suite            of keys and signatures: that of the roster

    Raises:     ValueError for a value out of range, for t, quorum or c that do not fit together,
                and where the sum over the whole cohort could wrap around.
    """

    federation_id: str
    round: int
    attempt: int
    roster_hash: bytes
    cohort: tuple[str, ...]
    model_hash: bytes
    previous: bytes
    num_words: int
    extra_bounds: tuple[int, ...]
    word_bits: int
    scale: float
    clip: float
    threshold: int
    quorum: int
    num_colluders: int
    degree: int
    noise_variance: float
    privacy_hash: bytes
    policy_hash: bytes
    suite: Suite = Suite.CLASSICAL

    def __post_init__(self) -> None:
        n = len(self.cohort)
        encode_text(self.federation_id)
        for id in self.cohort:
            encode_text(id)
        _require(list(self.cohort) == sorted(set(self.cohort)), "cohort sorted, ids distinct")
        _require(2 <= n <= MAX_COHORT, f"2 to {MAX_COHORT} sites in the cohort")
        for name in ("roster_hash", "model_hash", "previous", "privacy_hash", "policy_hash"):
            _require(len(getattr(self, name)) == HASH_SIZE, f"{name} of {HASH_SIZE} bytes")
        _require(0 <= self.round < 1 << 63, "0 <= round < 2**63")
        _require(0 <= self.attempt < 1 << 31, "0 <= attempt < 2**31")
        _require(1 <= self.num_words <= MAX_WORDS, f"1 <= num_words <= {MAX_WORDS}")
        _require(
            len(self.extra_bounds) <= MAX_EXTRA_WORDS, f"{MAX_EXTRA_WORDS} extra words at most"
        )
        _require(self.word_bits in WORD_BITS, f"word_bits in {WORD_BITS}")
        for name in ("scale", "clip"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, f"{name} finite and above 0")
        _require(self.scale * self.clip <= 1 << 31, "scale * clip <= 2**31")
        # Written so that NaN fails too.
        _require(0 <= self.noise_variance <= 1 << 62, "0 <= noise_variance <= 2**62")
        least = 0 if n < MIN_CLIENTS else 1
        _require(least <= self.num_colluders < n, f"{least} <= num_colluders < cohort size")
        _require(self.num_colluders < self.quorum <= n, "num_colluders < quorum <= cohort size")
        # Two quorums share more than c sites, so one honest site would have to sign twice.
        _require(
            2 * self.quorum - n > self.num_colluders, "2 * quorum - cohort size > num_colluders"
        )
        if self.degree == 0:
            _require(self.threshold == self.quorum, "threshold equal to quorum on a complete graph")
        else:
            # More than half of the neighbours: two disjoint halves cannot rebuild both secrets.
            _require(
                self.degree % 2 == 0
                and self.degree < 2 * self.threshold <= 2 * self.degree < 2 * n,
                "degree 0, or even with degree/2 < threshold <= degree < cohort size",
            )
        limit = (1 << (self.word_bits - 1)) - 1
        _require(
            n * self.input_bound + self.noise_tail <= limit
            and all(bound > 0 and n * bound <= limit for bound in self.extra_bounds),
            f"sums over {n} sites that fit {self.word_bits} bits: lower scale, clip, noise or "
            "extra_bounds, or use wider words",
        )

    @property
    def input_bound(self) -> int:
        """Largest absolute value of one site's model word before noise."""
        return math.ceil(self.scale * self.clip)

    @property
    def noise_tail(self) -> int:
        """What the summed noise of the whole cohort exceeds in any model word with chance 2^-40.

        The bound for Skellam noise, whose tails are the heaviest of the distributions in use.
        """
        return skellam_tail(len(self.cohort) * self.noise_variance, num_words=self.num_words)

    @property
    def client_noise_tail(self) -> int:
        """The same for the noise of a single site."""
        return skellam_tail(self.noise_variance, num_words=self.num_words)

    @property
    def total_words(self) -> int:
        """Model words and extra words."""
        return self.num_words + len(self.extra_bounds)

    @property
    def masked_size(self) -> int:
        """Bytes of one masked vector on the wire."""
        return self.total_words * self.word_bits // 8

    @property
    def context(self) -> bytes:
        """ctx: 32 bytes that stand for every parameter and for the cipher suite."""
        label = self.suite.label(labels.CONTEXT)
        return hashlib.sha256(encode([label, self.suite.primitives, self.encode()])).digest()

    def point(self, id: str) -> int:
        """The Shamir point of a cohort member: its place, from 1."""
        return self.cohort.index(id) + 1

    def next_attempt(self, *, cohort: tuple[str, ...] | None = None) -> RoundSpec:
        """The same round once more; a new context, hence all keys anew.

        The same cohort is always accepted. Sites that have sent an input before refuse another
        ``cohort`` that differs too much from the last one (``SentInput.excludes_second_sum``).
        """
        return dataclasses.replace(
            self, attempt=self.attempt + 1, cohort=self.cohort if cohort is None else cohort
        )

    def encode(self) -> bytes:
        """The canonical encoding of all fields, in the order of the class.

        The classical suite stays unwritten, as before there was another.
        """
        suite = [encode_text(self.suite.value)] if self.suite.is_hybrid else []
        return encode(
            [
                encode_text(self.federation_id),
                encode_uint(self.round),
                encode_uint(self.attempt),
                self.roster_hash,
                encode(encode_text(id) for id in self.cohort),
                self.model_hash,
                self.previous,
                encode_uint(self.num_words),
                encode(encode_uint(bound) for bound in self.extra_bounds),
                encode_uint(self.word_bits),
                encode_float(self.scale),
                encode_float(self.clip),
                encode_uint(self.threshold),
                encode_uint(self.quorum),
                encode_uint(self.num_colluders),
                encode_uint(self.degree),
                encode_float(self.noise_variance),
                self.privacy_hash,
                self.policy_hash,
                *suite,
            ]
        )

    @classmethod
    def decode(cls, data: bytes | memoryview, *, peer: str) -> RoundSpec:
        """The specification in ``data``; RemoteProtocolError(peer) for anything but a valid one."""
        reader = Reader(data, peer=peer)
        fields = {
            "federation_id": reader.text("federation_id"),
            "round": reader.uint("round"),
            "attempt": reader.uint("attempt"),
            "roster_hash": reader.exact("roster_hash", size=HASH_SIZE),
            "cohort": tuple(
                reader.items(
                    "cohort", lambda r: r.text("site id"), max_items=MAX_COHORT, max_size=1 << 21
                )
            ),
            "model_hash": reader.exact("model_hash", size=HASH_SIZE),
            "previous": reader.exact("previous", size=HASH_SIZE),
            "num_words": reader.uint("num_words"),
            "extra_bounds": tuple(
                reader.items(
                    "extra_bounds",
                    lambda r: r.uint("bound"),
                    max_items=MAX_EXTRA_WORDS,
                    max_size=1 << 16,
                )
            ),
            "word_bits": reader.uint("word_bits"),
            "scale": reader.real("scale"),
            "clip": reader.real("clip"),
            "threshold": reader.uint("threshold"),
            "quorum": reader.uint("quorum"),
            "num_colluders": reader.uint("num_colluders"),
            "degree": reader.uint("degree"),
            "noise_variance": reader.real("noise_variance"),
            "privacy_hash": reader.exact("privacy_hash", size=HASH_SIZE),
            "policy_hash": reader.exact("policy_hash", size=HASH_SIZE),
        }
        if not reader.is_done:
            if reader.text("suite") != Suite.HYBRID_PQ.value:
                raise reader.error("suite: unknown")
            fields["suite"] = Suite.HYBRID_PQ
        reader.finish()
        try:
            return cls(**fields)  # type: ignore[arg-type]
        except ValueError as error:
            raise reader.error(str(error)) from error


def _require(condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(f"expected {expected}")
