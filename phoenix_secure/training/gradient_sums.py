"""One site, one step under trust ``sum``: clipped gradients in whole numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.privacy.integer_grid import IntegerGrid, IntegerSums
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.image_gradients import ImageGradients
from phoenix_secure.training.steps import Cancelled

__all__ = ["GradientSummer"]


class GradientSummer(ImageGradients):
    """Sums the gradients of one Poisson sample of a site's images, for noise that is added later.

    Guarantee:  adding or removing one image of the site (all images of one person under unit
                group) changes the distribution of the sums as follows. With probability
                ``privacy.sampling_rate`` the image (person) is in the sample, and moves
                them by a whole vector of squared norm at most ``grid.squared_sensitivity``;
                else it changes nothing. The sums themselves are *not* private: they leave the site
                only with noise, inside secure aggregation (``secagg.payload.encode_sums``).
    Notes:      One image's gradient is clipped to ``privacy.clip_norm`` in place of
                ``training.grad_clip``. It enters with a minus sign: the direction of descent.
    """

    def __init__(
        self, config: RunConfig, *, num_classes: int, device: torch.device, grid: IntegerGrid
    ) -> None:
        super().__init__(config, num_classes=num_classes, device=device)
        self._grid = grid

    def sum(
        self,
        global_vector: np.ndarray,
        site: SiteImages,
        *,
        round_number: int,
        seeds: SeedTree,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], object] = lambda _: None,
    ) -> IntegerSums:
        """The words (d,) of one step at ``global_vector``; ``seeds`` count only for ``seeded``.

        Raises:     Cancelled between two chunks; ValueError and TrainingError for weights that are
                    not finite or beyond 10,000, before any image is looked at.
        """
        network, gradients = self._loaded(global_vector, site, round_number=round_number)
        total = np.zeros(global_vector.size, np.int64)
        randomness = self._randomness(seeds)
        sample = self._sample(site, randomness=randomness)
        gradients.begin()
        for rows in self._chunks(site, sample, sizes=gradients.sizes, randomness=randomness):
            if cancelled():
                raise Cancelled
            gradients.add_rounded(
                rows,
                clip_norm=self._config.privacy.clip_norm,
                grid=self._grid,
                total=total,
                persons=sample.persons,
            )
        gradients.complete_rounded(total)
        self._put_back(network, gradients)
        progress(len(sample.images))
        return IntegerSums(words=self._grid.cut_off(total))
