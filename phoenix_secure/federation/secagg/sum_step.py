"""From a secure sum to the next global model: one function for the server and for every site.

::

    state, packed words of a sum -> mean update -> server's step, moving average, clip norm -> state

Everything that the step reads is public to the members of the run: its settings, the state before,
and the sum. All of it is elementwise (``round/step.py``), so that server and sites, on whatever
machines, get the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.round.exact import exact_exp
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.round.step import next_state
from phoenix_secure.federation.secagg.adaptive_clip import next_clip_factor
from phoenix_secure.federation.secagg.newest import Newest
from phoenix_secure.federation.secagg.payload import decode_sum, unclipped_fraction
from phoenix_secure.federation.secagg.terms import SecureTerms
from protocol.encoding import Reader, encode_uint, encoded_parts
from protocol.events import RoundCompleted
from protocol.masks import Words
from protocol.transcript import packed_digest
from protocol.words import centre, pack_into, unpack, word_dtype

__all__ = ["KnownState", "SumStep", "SummedRound"]

_MAX_SITES = 1 << 16


@dataclass(frozen=True, kw_only=True, repr=False)
class SummedRound:
    """The sum of one training round, as the server broadcasts it.

    num_sites   sites in the sum
    packed      the words of the update, then those of the metrics, in wire form
    """

    round_number: int
    num_sites: int
    packed: bytes | memoryview

    @classmethod
    def of(cls, completed: RoundCompleted, *, round_number: int, terms: SecureTerms) -> SummedRound:
        """The sum that a protocol round ended with."""
        dtype = word_dtype(terms.word_bits)
        extra = np.array(completed.extra, np.int64) % (1 << (8 * dtype.itemsize))
        packed = np.empty(terms.masked_bytes, np.uint8)
        end = completed.words.size * terms.word_bits // 8
        pack_into(completed.words, packed[:end], word_bits=terms.word_bits)
        pack_into(extra.astype(dtype), packed[end:], word_bits=terms.word_bits)
        return cls(
            round_number=round_number,
            num_sites=len(completed.survivors),
            packed=packed.data,
        )

    def words(self, terms: SecureTerms) -> tuple[Words, tuple[int, ...]]:
        """The words of the update (num_words,), and the sums of the metrics' words."""
        num_words = terms.num_words + len(terms.metric_words.bounds)
        words = unpack(self.packed, word_bits=terms.word_bits, num_words=num_words)
        extra = centre(words[terms.num_words :], word_bits=terms.word_bits)
        return words[: terms.num_words], tuple(int(value) for value in extra)

    @cached_property
    def digest(self) -> bytes:
        """The digest that the server signs in a round's result; computed once."""
        return packed_digest(self.packed)

    def to_bytes(self) -> bytes:
        return b"".join(self.parts())

    def parts(self) -> list[bytes | memoryview]:
        """The wire form, the packed words uncopied."""
        numbers = encode_uint(self.round_number), encode_uint(self.num_sites)
        return encoded_parts([*numbers, self.packed])

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, peer: str, packed_size: int) -> SummedRound:
        """Parse; the words, a view of ``data``, are of exactly ``packed_size`` bytes.

        Raises:     RemoteProtocolError naming ``peer``.
        """
        reader = Reader(data, peer=peer)
        round_number = reader.uint("round", max_value=1 << 32)
        num_sites = reader.uint("sites", max_value=_MAX_SITES)
        packed = reader.view("words", min_size=packed_size, max_size=packed_size)
        reader.finish()
        return cls(round_number=round_number, num_sites=num_sites, packed=packed)

    def __repr__(self) -> str:
        return f"<SummedRound {self.round_number} over {self.num_sites} sites>"


@dataclass(frozen=True, kw_only=True, slots=True, repr=False, eq=False)
class KnownState:
    """A state and its digest, hashed once."""

    state: ServerState
    digest: bytes

    @classmethod
    def of(cls, state: ServerState) -> KnownState:
        return cls(state=state, digest=state.digest)

    @property
    def round_number(self) -> int:
        return self.state.round_number


class SumStep:
    """The step of one run.

    place   puts a mean update of what travels into the whole vector: (num_parameters,) and the
            round -> (d,)

    The newest step is kept (``Newest``): the sites of one process ask for the same one, and it is
    computed once for all of them.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        terms: SecureTerms,
        place: Callable[[np.ndarray, int], np.ndarray],
    ) -> None:
        self._config = config
        self.terms = terms
        self._place = place
        self._newest: Newest[tuple[bytes, bytes, int, int], KnownState] = Newest()

    @property
    def packed_size(self) -> int:
        """Bytes of a packed sum."""
        return self.terms.masked_bytes

    def next(self, before: KnownState, summed: SummedRound) -> KnownState:
        """The state after the round of ``summed``; rounds that were given up lie in between.

        Raises:     ValueError for a sum that no honest sites can have entered, or of a round that
                    does not come after ``before``; TrainingError for an infinite model.
        """
        if summed.round_number <= before.round_number or summed.num_sites < 1:
            raise ValueError(f"expected a sum of a round after {before.round_number}")
        key = before.digest, summed.digest, summed.round_number, summed.num_sites
        return self._newest.get(key, lambda: self._computed(before.state, summed))

    def _computed(self, before: ServerState, summed: SummedRound) -> KnownState:
        terms, num_sites = self.terms, summed.num_sites
        words, extra = summed.words(terms)
        update, metrics = decode_sum(words, extra, num_sites=num_sites, terms=terms)
        within = unclipped_fraction(words, num_sites=num_sites, terms=terms)
        # A round that was given up moved nothing but the number.
        state = replace(before, round_number=summed.round_number - 1)
        update *= state.clip_factor
        return KnownState.of(
            next_state(
                state,
                self._place(update, summed.round_number),
                config=self._config,
                steps_per_site=metrics.num_steps / (num_sites - metrics.num_failed),
                clip_factor=next_clip_factor(
                    state.clip_factor,
                    unclipped_fraction=within,
                    privacy=self._config.privacy,
                    exp=exact_exp,
                ),
            )
        )
