"""A release's generator, whose images the classifier of the run selects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.released_model import ReleasedModel
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.start_release import kept_release
from phoenix_secure.pictures import Encode, save_grid
from phoenix_secure.release.classifier import LinearClassifier
from phoenix_secure.release.generator import FittedGenerator, sample_generated, save_generator
from phoenix_secure.rng import SeedTree

__all__ = ["RunModel", "SelectedModel"]


class SelectedModel:
    """What the server of a classifier's run samples from (the interface of ``GlobalModel``).

    Selecting is post-processing: generator and classifier are noised already. A plan needs no
    release yet; a run does (``release``).

    Raises:     ConfigError for a release of other images or classes; CheckpointError.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        form: tuple[int, int],
        class_names: tuple[str, ...],
        seeds: SeedTree,
        device: torch.device,
    ) -> None:
        self._config = config
        self._seeds = seeds
        self._fitted: FittedGenerator | None = None
        if config.model.start is None:
            return
        self._fitted = fitted = kept_release(config.model.start, device=device)
        of_release = fitted.network.form
        if (of_release.channels, of_release.image_size) != form:
            raise ConfigError(
                f"model.init_from: the release is of {of_release.image_size}x"
                f"{of_release.image_size} images of {of_release.channels} channel(s): set "
                "data.image_size and data.channels to those"
            )
        if fitted.class_names != class_names:
            raise ConfigError(
                "model.init_from: the release is of other classes, "
                f"{', '.join(fitted.class_names)}: start from one of these images' classes"
            )

    @property
    def release(self) -> FittedGenerator:
        """The release's generator, with the classifier as soon as there is one.

        Raises:     ConfigError where none is named.
        """
        if self._fitted is None:
            raise ConfigError(
                "model.network=classifier selects a release's images: name the run of that release "
                "in model.init_from, or set release.features and release.share for both in one"
            )
        return self._fitted

    def use(self, state: ServerState) -> None:
        """Take the classifier's weights of ``state``."""
        form = self.release.network.form
        classifier = LinearClassifier(
            state.parameters,
            channels=form.channels,
            image_size=form.image_size,
            num_classes=form.num_classes,
        )
        self._fitted = replace(self.release, classifier=classifier)

    def sample(
        self, num_images: int, *, purpose: str, progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Images (N, C, H, W) float32 in [-1, 1]; the same for the same seed and ``purpose``."""
        return sample_generated(
            self.release,
            num_images=num_images,
            generator=self._seeds.child("draw", purpose).torch(),
            progress=progress,
        )

    def save_grid(self, path: Path, *, encode: Encode) -> None:
        """Sample and write one sample grid."""
        images = self.sample(self._config.output.num_samples, purpose="grid")
        save_grid(from_unit_range(images), path, encode=encode)

    def export(self, path: Path) -> None:
        """Write the folder of generator and classifier."""
        save_generator(self.release, path)


RunModel = GlobalModel | ReleasedModel | SelectedModel
