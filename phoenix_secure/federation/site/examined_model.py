"""The model that a pooled audit is of, as this site knows it, and the audit's first sum."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import WireModel
from phoenix_secure.federation.secagg.offers import RoundOffer
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts, PooledLayout
from phoenix_secure.federation.secagg.pooled_terms import (
    ABLE,
    COUNTS,
    classes_asked,
    examined_request,
    summed_counts,
)
from phoenix_secure.federation.secagg.sum_step import KnownState, SummedRound
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.site.model_state import SiteModel
from phoenix_secure.files import write_bytes
from protocol import RemoteProtocolError
from protocol.events import RoundFinished

__all__ = ["ExaminedModel"]


class ExaminedModel:
    """The model that is audited, as this site knows it (in the place of ``SiteModel``).

    model        the site's model of the training rounds
    keep         file for the first sum: a site that is started again in between goes on
    own          what this site enters into the first sum
    """

    def __init__(
        self,
        model: SiteModel,
        *,
        terms: SecureTerms,
        layout: PooledLayout,
        last_round: int,
        keep: Path,
        own: Callable[[], PooledCounts],
    ) -> None:
        self._model = model
        self._terms = terms
        self._layout = layout
        self._last_round = last_round
        self._keep = keep
        self._own = own
        self.examined: KnownState | None = None

    def read(self, body: bytes) -> RoundOffer:
        """The offer in ``body``; a state to catch up with is of the training rounds."""
        return self._model.read(body)

    def own_signature(self, offer: RoundOffer) -> int | None:
        """None: what this site signed in training is checked there."""
        return None

    def model_for(self, offer: RoundOffer, *, model_hash: bytes) -> WireModel:
        """What the sum is bound to: the final state and, for counts, the first sum.

        Raises:     SiteFailure BEHIND, ANOTHER_MODEL or REFUSED.
        """
        number = offer.round_number
        if number not in (ABLE, COUNTS) or offer.base > self._last_round:
            raise SiteFailure(FailureCode.REFUSED, why=f"no sum {number} of a pooled audit")
        known = self._model.state_for(replace(offer, round_number=self._last_round + 1))
        first = b""
        if number == COUNTS:
            kept = self._first()
            if kept is None:
                raise SiteFailure(FailureCode.BEHIND, why="this site did not hear the first sum")
            if self.classes_asked() is None:
                raise SiteFailure(
                    FailureCode.REFUSED, why="not all sites have images enough, this one among them"
                )
            first = kept.digest
        wire = WireModel.of(examined_request(known.digest, first=first, number=number))
        if not hmac.compare_digest(wire.sha256, model_hash):
            raise SiteFailure(
                FailureCode.ANOTHER_MODEL, why="the audit is of another model, or another first sum"
            )
        self.examined = known
        return wire

    def confirm(self, number: int, summed: SummedRound, *, finished: RoundFinished) -> bytes:
        """Keep the first sum, as the server signed its result; nothing else follows from one.

        Raises:     SiteFailure ANOTHER_MODEL for a sum that is not that of the result.
        """
        if summed.digest != finished.sum_digest or summed.round_number != number:
            raise SiteFailure(FailureCode.ANOTHER_MODEL, why="not the sum of its result")
        if summed.num_sites != len(finished.survivors):
            raise SiteFailure(FailureCode.ANOTHER_MODEL, why="not over the sites that signed")
        if number == ABLE:
            write_bytes(self._keep, summed.to_bytes(), mode=0o600)
        return b""

    def classes_asked(self) -> frozenset[int] | None:
        """The classes whose counts may be asked for; None where no count may be."""
        kept = self._first()
        if kept is None:
            return None
        return classes_asked(
            summed_counts(kept, terms=self._terms, layout=self._layout),
            num_sites=kept.num_sites,
            own=self._own(),
        )

    def _first(self) -> SummedRound | None:
        try:
            content = self._keep.read_bytes()
        except OSError:
            return None
        try:
            return SummedRound.from_bytes(
                content, peer="this site", packed_size=self._terms.masked_bytes
            )
        except RemoteProtocolError:
            return None
