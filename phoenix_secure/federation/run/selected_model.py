"""A release's generator, whose images the classifier of the run selects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.report import FitReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.fitting import (
    generator_folder,
    kept_generator,
    run_fit,
    state_digest,
)
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.released_model import ReleasedModel
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.start_release import kept_release
from phoenix_secure.pictures import Encode, save_grid
from phoenix_secure.release.classifier import LinearClassifier
from phoenix_secure.release.generator import FittedGenerator, sample_generated, save_generator
from phoenix_secure.release.refining import refinement
from phoenix_secure.rng import SeedTree

__all__ = ["RunModel", "SelectedModel"]


class SelectedModel:
    """What the server of a classifier's run samples from (the interface of ``GlobalModel``).

    Selecting is post-processing, and so is ``learn``, which comes after the last round: generator
    and classifier are noised already. A plan needs no release yet; a run does (``release``).

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
        self._device = device
        self._of_release: FittedGenerator | None = None
        self._fitted: FittedGenerator | None = None  # with the classifier, as soon as there is one
        if config.model.start is None:
            return
        self._of_release = fitted = kept_release(config.model.start, device=device)
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
        """The release's generator.

        Raises:     ConfigError where none is named.
        """
        if self._of_release is None:
            raise ConfigError(
                "model.network=classifier selects a release's images: name the run of that release "
                "in model.init_from, or set release.features and release.share for both in one"
            )
        return self._of_release

    def use(self, state: ServerState) -> None:
        """Take the classifier's weights of ``state``, and the release's generator unless ``learn``
        refined it with the same."""
        if self._fitted is None or not _is_of(self._fitted.classifier, state):
            self._fitted = replace(self.release, classifier=self._classifier(state))

    def _classifier(self, state: ServerState) -> LinearClassifier:
        form = self.release.network.form
        return LinearClassifier(
            state.parameters,
            channels=form.channels,
            image_size=form.image_size,
            num_classes=form.num_classes,
        )

    def learn(self, state: ServerState, folder: RunFolder) -> Iterator[FitReport]:
        """Refine the generator with the classifier of ``state`` (``sampling.refine_steps``).

        It is kept in ``generator/`` of the run's folder: a second call takes it from there, and a
        run that was killed goes on with the fit.

        Raises:     TrainingError for a loss that is not finite; StorageError.
        """
        sampling = self._config.sampling
        if sampling.refine_steps == 0:
            return
        kept = kept_generator(folder, device=self._device)
        if kept is None or not _is_of(kept.classifier, state):
            classifier = self._classifier(state)
            fit = refinement(
                self.release,
                classifier,
                num_steps=sampling.refine_steps,
                weight=sampling.refine_weight,
                seeds=self._seeds,
                num_threads=self._config.federation.threads_per_site,
            )
            yield from run_fit(fit, folder, of=state_digest(state), what="refined generator")
            kept = replace(self.release, network=fit.network, classifier=classifier)
            save_generator(kept, generator_folder(folder))  # and with it goes the fit
        self._fitted = kept

    def sample(
        self, num_images: int, *, purpose: str, progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Images (N, C, H, W) float32 in [-1, 1]; the same for the same seed and ``purpose``."""
        return sample_generated(
            self._fitted or self.release,
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
        save_generator(self._fitted or self.release, path)


def _is_of(classifier: LinearClassifier | None, state: ServerState) -> bool:
    if classifier is None:
        return False
    return np.array_equal(classifier.vector, state.parameters.astype(np.float32))


RunModel = GlobalModel | ReleasedModel | SelectedModel
