"""A site's class sums with all the noise that they need: a release of trust ``site-local`` without
secure aggregation.

What leaves hides single images from everybody, the server included. At one site this is a trusted
place that holds all images; the sum over n sites holds n times the variance.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.secagg.release_noise import ReleaseNoise
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.release.class_sums import FeatureSummer
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.steps import Cancelled
from protocol.entropy import Entropy

__all__ = ["NoisedFeatureSummer"]


class NoisedFeatureSummer:
    """Sums any site's images and adds the noise; has a trainer's method, for plaintext rounds.

    entropy    secret bytes for the noise of a round; of its seeds where the noise is ``seeded``
    """

    def __init__(
        self,
        features: FeatureMap,
        *,
        made: ReleaseNoise,
        entropy: Callable[[SeedTree], Entropy],
        by_person: bool = False,
    ) -> None:
        self._summer = FeatureSummer(features, grid=made.grid, by_person=by_person)
        self._made = made
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
        """The noised words (w,) in units of ``grid.steps``, as float32: rounding numbers that are
        noised costs no privacy. ``global_vector`` means nothing for it.

        Guarantee:  the noise has the law that the accounting assumes of one share.
        Raises:     Cancelled between two blocks of images.
        """
        started = time.perf_counter()

        def stop_if_cancelled() -> None:
            if cancelled():
                raise Cancelled

        words = self._summer.sum(site, before_block=stop_if_cancelled).words
        noise = draw_discrete_gaussian(
            words.size,
            variance=int(self._made.noise.share_variance),
            entropy=self._entropy(seeds),
        )
        progress(len(site.images))
        return LocalUpdate(
            delta=((words + noise) / self._made.grid.steps).astype(np.float32),
            num_images=len(site.images),
            num_steps=1,
            loss=0.0,
            seconds=time.perf_counter() - started,
        )
