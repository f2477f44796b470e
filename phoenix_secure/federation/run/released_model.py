"""The model of a release: a generator fitted to the noised sum, or a DDPM trained on its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phoenix_secure.config import (
    PrivacyConfig,
    ReleaseConfig,
    RunConfig,
    SharingConfig,
    TrainingConfig,
)
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.report import FitReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.fitting import (
    generator_folder,
    kept_generator,
    run_fit,
    state_digest,
)
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.secagg.noise import SummedNoise
from phoenix_secure.files import sha256_of, write_bytes
from phoenix_secure.pictures import Encode, save_grid
from phoenix_secure.release.class_sums import class_means
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.fitting import GeneratorFit, known_classes
from phoenix_secure.release.generator import FittedGenerator, sample_generated, save_generator
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.release.networks import GeneratorForm, build_generator
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer

__all__ = ["ReleasedModel", "ddpm_settings"]

_DDPM = "ddpm.safetensors"


class ReleasedModel:
    """What a release's server samples from (the interface of ``GlobalModel``).

    ``learn`` comes first; it needs nothing but the noised sum, so that all of it is free.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        layout: ReleaseLayout,
        made: SummedNoise,
        class_names: tuple[str, ...],
        seeds: SeedTree,
        device: torch.device,
    ) -> None:
        self._config = config
        self._layout = layout
        self._grid, self._noise = made.grid, made.noise
        self._class_names = class_names if layout.num_classes > 1 else ()
        self._seeds = seeds
        self._device = device
        self._generator: FittedGenerator | None = None
        self._sha256 = ""
        self._ddpm: GlobalModel | None = None
        if config.release.then == "ddpm":
            self._ddpm = GlobalModel(
                config,
                image_size=layout.image_size,
                channels=layout.channels,
                class_names=self._class_names,
                seeds=seeds,
                device=device,
            )

    def learn(self, state: ServerState, folder: RunFolder) -> Iterator[FitReport]:
        """Fit the generator to the sum in ``state``, and train the DDPM where there is one.

        Both are kept in ``generator/`` of the run's folder: a second call takes them from there.
        So is the fit every so many steps, so that a run that was killed goes on with it.

        Raises:     TrainingError where noise hides everything; StorageError.
        """
        path, digest = generator_folder(folder), state_digest(state)
        kept = kept_generator(folder, device=self._device)
        if kept is None or kept.sum_sha256 != digest:
            num_sites = len(folder.read_metrics()[-1]["sites"])
            fit = self._start_fit(state.parameters, num_sites=num_sites)
            yield from run_fit(fit, folder, of=digest, what="generator")
            kept = FittedGenerator(
                network=fit.network,
                class_names=self._class_names,
                known=fit.known,
                sum_sha256=digest,
                latent_scale=self._config.release.latent_scale,
                sharpness=self._config.release.sharpness,
            )
            save_generator(kept, path)  # and with it goes the fit
        self._generator, self._sha256 = kept, sha256_of(path / "generator.safetensors")
        if self._ddpm is not None:
            yield from self._train_ddpm(self._ddpm, kept, path / _DDPM)

    def _start_fit(self, mean: np.ndarray, *, num_sites: int) -> GeneratorFit:
        """To the mean over ``num_sites`` sites, in units of 1 / scale.

        Raises:     TrainingError where noise hides everything.
        """
        means = class_means(
            mean.astype(np.float64) * (self._grid.steps * num_sites),
            grid=self._grid,
            num_classes=self._layout.num_classes,
        )
        deviation = math.sqrt(num_sites * self._noise.share_variance) / self._grid.count_step
        form = GeneratorForm(
            channels=self._layout.channels,
            image_size=self._layout.image_size,
            num_classes=self._layout.num_classes,
            latent_size=self._config.release.latent_size,
            num_networks=self._config.release.generators,
        )
        return GeneratorFit(
            build_generator(form, seeds=self._seeds).to(self._device),
            means,
            FeatureMap(self._layout, seeds=self._seeds),
            known=known_classes(means, count_noise=deviation),
            seeds=self._seeds,
            num_threads=self._config.federation.threads_per_site,
        )

    def _train_ddpm(
        self, ddpm: GlobalModel, fitted: FittedGenerator, path: Path
    ) -> Iterator[FitReport]:
        """Train on generated images alone, or take what was kept; then ``ddpm`` samples from it."""
        vector = _kept_vector(path, generator=self._sha256, size=ddpm.initial_parameters.size)
        if vector is None:
            count = self._config.release.then_images
            labels = fitted.labels(count)
            images = SiteImages(
                images=from_unit_range(self._generated(fitted, count, purpose="training")),
                labels=labels if self._config.model.class_conditional else None,
            )
            trainer = LocalTrainer(
                ddpm_settings(self._config),
                num_classes=len(self._class_names),
                device=self._device,
            )
            update = trainer.train(
                ddpm.initial_parameters,
                images,
                round_number=1,
                seeds=self._seeds.child("release", "ddpm"),
            )
            vector = ddpm.initial_parameters + update.delta
            write_bytes(path, save({"parameters": vector}, {"generator": self._sha256}))
            yield FitReport(
                what="ddpm",
                step=update.num_steps,
                num_steps=update.num_steps,
                loss=update.loss,
                seconds=update.seconds,
            )
        ddpm.use_vector(vector)

    def use(self, state: ServerState) -> None:
        """Nothing is left to do after ``learn``.

        Raises:     ValueError before it.
        """
        if self._generator is None:
            raise ValueError("expected a release that was learned from: call learn first")

    def sample(
        self, num_images: int, *, purpose: str, progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Images (N, C, H, W) float32 in [-1, 1]; the same for the same seed and ``purpose``."""
        if self._ddpm is not None:
            return self._ddpm.sample(num_images, purpose=purpose, progress=progress)
        assert self._generator is not None  # noqa: S101 - use() said so
        return self._generated(self._generator, num_images, purpose=purpose, progress=progress)

    def save_grid(self, path: Path, *, encode: Encode) -> None:
        """Sample and write one sample grid."""
        images = self.sample(self._config.output.num_samples, purpose="grid")
        save_grid(from_unit_range(images), path, encode=encode)

    def export(self, path: Path) -> None:
        """Write the model: a diffusers pipeline folder, or a generator's folder."""
        if self._ddpm is not None:
            self._ddpm.export(path)
        else:
            assert self._generator is not None  # noqa: S101 - use() said so
            save_generator(self._generator, path)

    @property
    def ddpm(self) -> GlobalModel | None:
        """The DDPM, where there is one."""
        return self._ddpm

    @property
    def facts(self) -> dict[str, Any]:
        """For the summary: what was released, and what was made of it."""
        release: ReleaseConfig = self._config.release
        fitted = self._generator
        return {
            "features": release.features,
            "num_features": self._layout.num_features,
            "num_words": self._layout.num_words,
            "classes": list(self._class_names),
            "known_classes": [] if fitted is None else list(fitted.known),
            "steps_per_unit": self._grid.steps,
            "then": release.then,
            "sum_sha256": "" if fitted is None else fitted.sum_sha256,
            "generator_sha256": self._sha256,
        }

    def _generated(
        self,
        fitted: FittedGenerator,
        num_images: int,
        *,
        purpose: str,
        progress: Callable[[int], object] = lambda _: None,
    ) -> np.ndarray:
        return sample_generated(
            fitted,
            num_images=num_images,
            generator=self._seeds.child("draw", purpose).torch(),
            progress=progress,
        )


def ddpm_settings(config: RunConfig) -> RunConfig:
    """Settings of the DDPM's training: without privacy, generated images are nobody's secret."""
    release, training = config.release, config.training
    if release.then_steps is None:
        training = training.model_copy(update={"proximal_mu": 0.0})
    else:
        training = TrainingConfig(
            batch_size=release.then_batch,
            local_steps=release.then_steps,
            learning_rate=release.then_learning_rate,
            label_dropout=training.label_dropout,
            horizontal_flip=training.horizontal_flip,
        )
    return config.model_copy(
        update={
            "privacy": PrivacyConfig(),
            "release": ReleaseConfig(),
            "sharing": SharingConfig(),
            "federation": config.federation.model_copy(update={"rounds": 1}),
            "training": training,
        }
    )


def _kept_vector(path: Path, *, generator: str, size: int) -> np.ndarray | None:
    """The parameters of a DDPM that was trained on this generator's images; None without."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            found: np.ndarray = file.get_tensor("parameters")
            belongs = (file.metadata() or {}).get("generator") == generator
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: delete it, then resume") from error
    return found if belongs and found.shape == (size,) else None
