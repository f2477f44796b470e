"""A site's side of a pooled audit: two secure sums over the model that it computed itself.

The stages are those of secure rounds, under names of their own, and so are the rules: promises on
the disk, one model for each sum, one set of sites. What the sums are bound to is the state of the
model that this site computed, or that more sites signed than may collude; and the second one also
to the first, from which every site sees by itself whose counts may be asked for.

Who examines (scores, histograms) comes from above: this module knows no attack.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import MalformedMessage, TrainRequest
from phoenix_secure.federation.round.stages import AUDIT_PREFIX
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts, PooledLayout
from phoenix_secure.federation.secagg.pooled_terms import (
    ABLE,
    COUNTS,
    pooled_roster,
    pooled_terms,
    released_parameters,
)
from phoenix_secure.federation.site.examined_model import ExaminedModel
from phoenix_secure.federation.site.exclusions import Note
from phoenix_secure.federation.site.model_state import SiteModel
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.steps import Cancelled
from protocol import Identity, Roster

__all__ = [
    "AuditedImages",
    "Examiner",
    "PooledAudit",
    "SiteAudit",
    "with_pooled_audit",
]

_log = logging.getLogger(__name__)

Handler = Callable[[str, bytes], bytes]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class AuditedImages:
    """What a site examines a model with, and where it keeps its own findings.

    members     of the plan's split: what this site trained on
    held_out    of the same split; nobody trained on them here
    seeds       root of this site's own randomness
    out         folder of the site's own confidential report
    """

    config: RunConfig
    members: SiteImages
    held_out: SiteImages
    seeds: SeedTree
    site: str
    out: Path


class Examiner(Protocol):
    """Counts what a site may enter (``phoenix_secure.audit.pooled``)."""

    def able(self, images: AuditedImages, *, layout: PooledLayout) -> PooledCounts:
        """Whether there are images enough, in all and of each class; every count is zero."""
        ...

    def count(
        self,
        images: AuditedImages,
        *,
        layout: PooledLayout,
        parameters: np.ndarray,
        classes: frozenset[int],
    ) -> PooledCounts:
        """The histograms of this site alone under the model ``parameters`` (d,); of single classes
        only those of ``classes``. Also keeps the site's own report."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SiteAudit:
    """What a site brings to a pooled audit beside its part in the rounds.

    held_out    nobody trained on them here
    promises    the record of the audit's sums
    first       file for the first sum
    out         folder of the site's own confidential report
    """

    examiner: Examiner
    held_out: SiteImages
    promises: SiteRecord
    first: Path
    out: Path


class PooledAudit:
    """Answers the stages of one site.

    secure      the protocol's side, made with ``examined`` for its model
    """

    def __init__(
        self,
        secure: SecureSite,
        *,
        examined: ExaminedModel,
        examiner: Examiner,
        images: AuditedImages,
        layout: PooledLayout,
    ) -> None:
        self._secure = secure
        self._examined = examined
        self._examiner = examiner
        self._images = images
        self._layout = layout

    @classmethod
    def of(
        cls,
        audited: SiteAudit,
        own: SiteImages,
        *,
        config: RunConfig,
        identity: Identity,
        roster: Roster,
        model: SiteModel,
        seeds: SeedTree,
        note: Note,
        epoch: Callable[[], RoundEpoch] | None,
    ) -> PooledAudit:
        """The side of the site ``identity``.

        own      its members
        roster   of the training rounds, and ``model`` the one of those
        seeds    root of its own randomness
        """
        terms, layout = pooled_terms(config), PooledLayout.of(config)
        images = AuditedImages(
            config=config,
            members=own,
            held_out=audited.held_out,
            seeds=seeds.child("audit"),
            site=identity.id,
            out=audited.out,
        )
        examined = ExaminedModel(
            model,
            terms=terms,
            layout=layout,
            last_round=config.federation.rounds,
            keep=audited.first,
            own=lambda: audited.examiner.able(images, layout=layout),
        )
        in_force = epoch or (lambda: RoundEpoch.fixed(roster))

        def audit_epoch() -> RoundEpoch:
            found = in_force()
            return replace(found, roster=pooled_roster(found.roster))

        secure = SecureSite(
            identity,
            roster=pooled_roster(roster),
            terms=terms,
            record=audited.promises,
            max_rounds=COUNTS,
            rounding_key=lambda number: bytes(32),  # whole numbers: nothing is rounded
            num_threads=config.federation.threads_per_site,
            note=note,
            model=examined,
            epoch=audit_epoch,
        )
        return cls(
            secure, examined=examined, examiner=audited.examiner, images=images, layout=layout
        )

    def handle(self, stage: str, body: bytes) -> bytes:
        """Answer one stage.

        Raises:     SiteFailure with the code that the server may see.
        """
        try:
            return self._secure.handle(stage, body, train=self._words)
        except Cancelled:
            raise SiteFailure(FailureCode.CANCELLED) from None
        except (MalformedMessage, ValueError):
            raise SiteFailure(FailureCode.MALFORMED) from None
        except PhoenixError as error:
            _log.error("%s: pooled audit: %s", self._images.site, error)
            raise SiteFailure(FailureCode.ERROR) from None

    def _words(self, request: TrainRequest) -> IntegerSums:
        layout = self._layout
        if request.round_number == ABLE:
            counts = self._examiner.able(self._images, layout=layout)
            return IntegerSums(words=layout.to_words(counts))
        known, classes = self._examined.examined, self._examined.classes_asked()
        if known is None or classes is None:
            raise ValueError("expected a model that was checked")
        counts = self._examiner.count(
            self._images,
            layout=layout,
            parameters=released_parameters(known.state, self._images.config),
            classes=classes,
        )
        return IntegerSums(words=layout.to_words(counts))


def with_pooled_audit(handle: Handler, audit: PooledAudit) -> Handler:
    """``handle``, and the stages of ``audit`` under their own names."""

    def answer(stage: str, body: bytes) -> bytes:
        if stage.startswith(AUDIT_PREFIX):
            return audit.handle(stage.removeprefix(AUDIT_PREFIX), body)
        return handle(stage, body)

    return answer
