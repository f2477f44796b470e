"""A site's sums with all the noise that they need: trust ``site-local`` without secure aggregation,
of a release or of the steps of a classifier.

What leaves hides single images from everybody, the server included. At one site this is a trusted
place that holds all images; the sum over n sites holds n times the variance.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.secagg.noise import SiteNoise
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.steps import Cancelled
from protocol.entropy import Entropy

__all__ = ["NoisedSummer"]


class NoisedSummer:
    """Sums any site's images and adds the noise; has a trainer's method, for plaintext rounds.

    entropy    secret bytes for the noise of a round; of its seeds where the noise is ``seeded``
    """

    def __init__(
        self,
        summer: FeatureSummer | ClassifierSummer,
        *,
        noise: SiteNoise,
        entropy: Callable[[SeedTree], Entropy],
    ) -> None:
        self._summer = summer
        self._noise = noise
        self._entropy = entropy

    def train(
        self,
        global_vector: np.ndarray,
        site: SiteImages,
        *,
        round_number: int,
        seeds: SeedTree,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], object] = lambda _: None,
    ) -> LocalUpdate:
        """The noised words (w,) in units of ``noise.scale``, as float32: rounding numbers that are
        noised costs no privacy. ``global_vector`` means nothing for a release.

        Guarantee:  the noise has the law that the accounting assumes of one share.
        Raises:     Cancelled between two blocks of images; what the summer raises.
        """
        started = time.perf_counter()

        def stop_if_cancelled() -> None:
            if cancelled():
                raise Cancelled

        if isinstance(self._summer, FeatureSummer):
            sums = self._summer.sum(site, before_block=stop_if_cancelled)
        else:
            sums = self._summer.sum(
                global_vector,
                site,
                round_number=round_number,
                seeds=seeds,
                before_block=stop_if_cancelled,
            )
        noise = draw_discrete_gaussian(
            sums.words.size,
            variance=int(self._noise.share_variance),
            entropy=self._entropy(seeds),
        )
        progress(len(site.images))
        return LocalUpdate(
            delta=((sums.words + noise) / self._noise.scale).astype(np.float32),
            num_images=len(site.images),
            num_steps=1,
            loss=0.0,
            seconds=time.perf_counter() - started,
        )
