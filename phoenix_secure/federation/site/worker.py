"""What a site does when a stage arrives: check the request, train, answer or give a code."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.messages import MalformedMessage, TrainReply, TrainRequest
from phoenix_secure.federation.site.failure import SiteFailure
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.federation.strategies.site_round import SiteStrategies
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import Cancelled, LocalTrainer, LocalUpdate, SiteImages

__all__ = ["SiteFailure", "SiteWorker"]


class SiteWorker:
    """Answers the stages of one site.

    With ``secure`` set, the site takes part in secure rounds only: a server that asks for the
    update in the clear is refused, whatever the run's settings say at its end.
    """

    def __init__(
        self,
        name: str,
        *,
        images: SiteImages,
        trainer: LocalTrainer,
        seeds: SeedTree,
        cancelled: threading.Event,
        secure: SecureSite | None = None,
        strategies: SiteStrategies | None = None,
        progress: Callable[[str, int], object] = lambda site, images: None,
    ) -> None:
        self._name = name
        self._images = images
        self._trainer = trainer
        self._seeds = seeds
        self._cancelled = cancelled
        self._secure = secure
        self._strategies = strategies
        self._progress = progress

    def handle(self, stage: str, body: bytes) -> bytes:
        """Answer ``stage``.

        Raises:     SiteFailure with the code that the server may see.
        """
        try:
            if self._secure is not None:
                return self._secure.handle(stage, body, train=self._train)
            if stage != "train":
                raise SiteFailure(FailureCode.REFUSED)
            return self._train_in_the_clear(body)
        except Cancelled:
            raise SiteFailure(FailureCode.CANCELLED) from None
        except TrainingError:
            raise SiteFailure(FailureCode.DIVERGED) from None
        except (MalformedMessage, ValueError):
            raise SiteFailure(FailureCode.MALFORMED) from None

    def _train(self, request: TrainRequest) -> LocalUpdate:
        if self._strategies is None:
            return self._train_from(request.parameters, request.round_number)
        return self._strategies.answer(request, train=self._train_from)

    def _train_from(self, parameters: np.ndarray, round_number: int) -> LocalUpdate:
        return self._trainer.train(
            parameters,
            self._images,
            round_number=round_number,
            seeds=self._seeds.child("site", self._name, "round", round_number),
            cancelled=self._cancelled.is_set,
            progress=lambda images: self._progress(self._name, images),
        )

    def _train_in_the_clear(self, body: bytes) -> bytes:
        request = TrainRequest.from_bytes(body)
        update = self._train(request)
        return TrainReply(
            round_number=request.round_number,
            delta=update.delta,
            num_images=update.num_images,
            num_steps=update.num_steps,
            loss=update.loss,
            seconds=update.seconds,
        ).to_bytes()
