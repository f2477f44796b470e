"""The site's worker: checks the request of a stage, trains, and answers with bytes or a code."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.heterogeneity.site_round import SiteStrategies
from phoenix_secure.federation.round.messages import MalformedMessage, TrainReply, TrainRequest
from phoenix_secure.federation.site.privacy import SitePrivacy, Trainer
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.local import LocalTrainer, LocalUpdate
from phoenix_secure.training.steps import Cancelled

__all__ = ["SiteWorker"]

_log = logging.getLogger(__name__)


class SiteWorker:
    """Answers the stages of one site.

    With ``secure`` set, the site takes part in secure rounds only: a server that asks for a
    plaintext update is refused, whatever the run's settings say at its end. ``privacy`` is the
    site's side of differential privacy, for plaintext rounds too. ``reply_after_s`` is when the
    answer that follows a training leaves, counted from its request: never earlier, and later by at
    most a local step and an evaluation. None: as soon as it is there.
    """

    def __init__(
        self,
        name: str,
        *,
        images: SiteImages,
        trainer: Trainer | FeatureSummer,
        seeds: SeedTree,
        cancelled: threading.Event,
        secure: SecureSite | None = None,
        privacy: SitePrivacy | None = None,
        strategies: SiteStrategies | None = None,
        reply_after_s: float | None = None,
        progress: Callable[[str, int], object] = lambda site, images: None,
    ) -> None:
        self._name = name
        self._images = images
        self._trainer = trainer
        self._seeds = seeds
        self._cancelled = cancelled
        self._secure = secure
        self._privacy = privacy
        self._strategies = strategies
        self._reply_after_s = reply_after_s
        self._stop_at: float | None = None
        self._progress = progress

    def handle(self, stage: str, body: bytes) -> bytes:
        """Answer ``stage``.

        Raises:     SiteFailure with the code that the server may see.
        """
        try:
            if self._secure is not None:
                return self._secure.handle(stage, body, train=self._train_for_sum)
            if stage != "train":
                raise SiteFailure(FailureCode.REFUSED)
            return self._train_in_the_clear(body)
        except Cancelled:
            raise SiteFailure(FailureCode.CANCELLED) from None
        except TrainingError:
            raise SiteFailure(FailureCode.DIVERGED) from None
        except (MalformedMessage, ValueError):
            raise SiteFailure(FailureCode.MALFORMED) from None

    def _train_for_sum(self, request: TrainRequest) -> LocalUpdate | IntegerSums:
        """Train, and answer no earlier than ``reply_after_s`` lets it."""
        if self._reply_after_s is None:
            return self._for_sum(request)
        stop_at = time.monotonic() + self._reply_after_s
        self._stop_at = stop_at
        try:
            return self._for_sum(request)
        except Cancelled:
            if self._cancelled.is_set():
                raise
            raise TrainingError(
                f"the training took more than secure_aggregation.reply_after_s = "
                f"{self._reply_after_s:g} s"
            ) from None
        finally:
            self._cancelled.wait(max(0.0, stop_at - time.monotonic()))

    def _for_sum(self, request: TrainRequest) -> LocalUpdate | IntegerSums:
        """An update, or under trust ``sum`` whole numbers, in which ``strategies`` have no part.

        A release sums the site's own images once; the request's vector means nothing for it.
        """
        if isinstance(self._trainer, FeatureSummer):
            return self._trainer.sum(self._images, before_block=self._stop_if_over)
        if isinstance(self._trainer, ClassifierSummer):
            return self._trainer.sum(
                request.parameters,
                self._images,
                round_number=request.round_number,
                seeds=self._seeds_of(request.round_number),
                before_block=self._stop_if_over,
            )
        if isinstance(self._trainer, GradientSummer):
            return self._trainer.sum(
                request.parameters,
                self._images,
                round_number=request.round_number,
                seeds=self._seeds_of(request.round_number),
                cancelled=self._is_over,
                progress=lambda images: self._progress(self._name, images),
            )
        return self._train(request)

    def _stop_if_over(self) -> None:
        if self._is_over():
            raise Cancelled

    def _is_over(self) -> bool:
        late = self._stop_at is not None and time.monotonic() >= self._stop_at
        return late or self._cancelled.is_set()

    def _train(self, request: TrainRequest) -> LocalUpdate:
        if self._strategies is None:
            return self._train_from(request.parameters, request.round_number, None)
        return self._strategies.answer(request, train=self._train_from)

    def _train_from(
        self, parameters: np.ndarray, round_number: int, drift: np.ndarray | None
    ) -> LocalUpdate:
        if isinstance(self._trainer, FeatureSummer | GradientSummer | ClassifierSummer):
            raise ValueError("expected a trainer: sums without noise answer secure rounds alone")
        train = self._trainer.train
        # Under noise there is none: the settings were refused.
        if drift is not None and isinstance(self._trainer, LocalTrainer):
            train = partial(self._trainer.train, drift=drift)
        return train(
            parameters,
            self._images,
            round_number=round_number,
            seeds=self._seeds_of(round_number),
            cancelled=self._is_over,
            progress=lambda images: self._progress(self._name, images),
        )

    def _seeds_of(self, round_number: int) -> SeedTree:
        return self._seeds.child("site", self._name, "round", round_number)

    def _train_in_the_clear(self, body: bytes) -> bytes:
        request = TrainRequest.from_bytes(body)
        if self._privacy is None:
            return _reply(request, self._train(request), hides_metrics=False)
        privacy, model_hash = self._privacy, hashlib.sha256(body).digest()
        reply = privacy.releases.prepare(
            request.round_number,
            model_hash=model_hash,
            make=lambda: _reply(
                request, self._private_update(request), hides_metrics=privacy.hides_metrics
            ),
        )
        privacy.releases.charge(request.round_number, model_hash=model_hash)
        return reply

    def _private_update(self, request: TrainRequest) -> LocalUpdate:
        """The noised update, or one error whatever failed: its kind is not in the guarantee."""
        try:
            return self._train(request)
        except (Cancelled, SiteFailure, TrainingError):
            raise
        except Exception as error:
            _log.exception("%s: the training failed", self._name)
            raise TrainingError(f"the training of {self._name} failed") from error


def _reply(request: TrainRequest, update: LocalUpdate, *, hides_metrics: bool) -> bytes:
    """A plaintext answer; without what the guarantee does not cover, where that is hidden."""
    loss = 0.0 if hides_metrics or math.isnan(update.loss) else update.loss
    return TrainReply(
        round_number=request.round_number,
        delta=update.delta,
        num_images=1 if hides_metrics else update.num_images,
        num_steps=update.num_steps,
        loss=loss,
        seconds=0.0 if hides_metrics else update.seconds,
    ).to_bytes()
