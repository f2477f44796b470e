"""Gradients of single images for private training: what enters, from which draws, in which form."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Iterator

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.chunks import ImageRows, chunk_counts
from phoenix_secure.privacy.per_image import Gradients, make_gradients
from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.augmentation import augmented_rows
from phoenix_secure.training.network import network_for
from phoenix_secure.training.parameters import load_vector

__all__ = ["ImageGradients"]

# Trained networks stay within tens, and beyond a thousand times that float32 overflows for every
# image. Such weights come of a run that diverges, or of a server that looks for one that does not.
_MOST_WEIGHT = 1e4
# Sizes of chunks by everything that decides kernels: a process looks once.
_FOUND_SIZES: dict[Hashable, tuple[int, ...]] = {}
_FINDING_SIZES = threading.Lock()


class ImageGradients:
    """The part that all trainers with a guarantee per image share; one network per thread.

    Raises:     ConfigError for settings under which gradients of single images mean nothing.
    """

    def __init__(self, config: RunConfig, *, num_classes: int, device: torch.device) -> None:
        _check(config)
        self._config = config
        self._num_classes = num_classes
        self._device = device
        self._objective = Objective(config.diffusion, device=device)
        self._local = threading.local()

    def _loaded(
        self, global_vector: np.ndarray, site: SiteImages, *, round_number: int
    ) -> tuple[torch.nn.Module, Gradients]:
        """This thread's network with the weights of ``global_vector``, taken out of its place.

        It goes back with ``_put_back``: a round that is cut short leaves sums without noise.

        Raises:     ValueError for weights that are not finite, TrainingError for weights beyond
                    10,000, both before any image is looked at.
        """
        network, gradients = self._network(site)
        self._local.network = None
        load_vector(network, global_vector)
        if np.abs(global_vector).max(initial=0.0) > _MOST_WEIGHT:
            raise TrainingError(
                f"weights beyond {_MOST_WEIGHT:g} came for round {round_number}: lower "
                "training.learning_rate or federation.server_learning_rate"
            )
        network.train()
        return network, gradients

    def _put_back(self, network: torch.nn.Module, gradients: Gradients) -> None:
        self._local.network = network, gradients

    def _sampled(
        self,
        site: SiteImages,
        *,
        sizes: tuple[int, ...],
        randomness: Randomness,
    ) -> Iterator[ImageRows]:
        """The rows of one step's Poisson sample, in chunks."""
        index = randomness.included(
            len(site.images), probability=self._config.privacy.sampling_rate
        )
        start = 0
        for count in chunk_counts(len(index), sizes):
            yield self._rows(site, index[start : start + count], randomness=randomness)
            start += count

    def _randomness(self, seeds: SeedTree) -> Randomness:
        """One source for all draws of a round.

        Timesteps, noises, copies and dropped labels must be as secret as the noise: draws are taken
        in order, so that to one who knew them a neighbouring run would differ in every later image,
        and not in one.
        """
        if self._config.privacy.noise_source == "seeded":
            return SeededRandomness(seeds.child("dp").entropy())
        return SecureRandomness()

    def _rows(self, site: SiteImages, index: np.ndarray, *, randomness: Randomness) -> ImageRows:
        """Every image's regression problems: ``augmentations * noise_draws`` rows each."""
        config, privacy = self._config.training, self._config.privacy
        x0 = torch.from_numpy(site.images[index]).to(self._device).float() / 127.5 - 1
        copies = augmented_rows(
            x0,
            copies=privacy.augmentations,
            horizontal_flip=config.horizontal_flip,
            draws=randomness,
        )
        num_rows = privacy.augmentations * privacy.noise_draws
        flat = copies.repeat_interleave(privacy.noise_draws, dim=1).flatten(0, 1)
        if self._config.model.space_to_depth > 1:
            flat = torch.nn.functional.pixel_unshuffle(flat, self._config.model.space_to_depth)
        pair = self._objective.secret_pair(flat, draws=randomness)
        shape = (len(index), num_rows)
        return ImageRows(
            inputs=pair.inputs.view(*shape, *flat.shape[1:]),
            times=pair.times.view(shape),
            target=pair.target.view(*shape, *flat.shape[1:]),
            weight=pair.weight.view(shape),
            labels=self._labels(site, index, num_rows=num_rows, randomness=randomness),
        )

    def _labels(
        self, site: SiteImages, index: np.ndarray, *, num_rows: int, randomness: Randomness
    ) -> torch.Tensor | None:
        """Labels (n, num_rows), each row's dropped by itself for classifier-free guidance."""
        if not self._config.model.class_conditional or site.labels is None:
            return None
        labels = torch.from_numpy(site.labels[index])[:, None].repeat(1, num_rows)
        probability = self._config.training.label_dropout
        if probability > 0:
            dropped = randomness.included(labels.numel(), probability=probability)
            labels.view(-1)[torch.from_numpy(dropped)] = self._num_classes
        return labels.to(self._device)

    def _network(self, site: SiteImages) -> tuple[torch.nn.Module, Gradients]:
        """This thread's network (its weights are overwritten before every use)."""
        if getattr(self._local, "network", None) is None:
            network = network_for(
                self._config, site, num_classes=self._num_classes, device=self._device
            )
            privacy = self._config.privacy
            gradients = make_gradients(
                privacy.gradients, network, physical_batch=privacy.physical_batch
            )
            self._verify(network, gradients, site)
            self._local.network = network, gradients
        found: tuple[torch.nn.Module, Gradients] = self._local.network
        return found

    def _verify(self, network: torch.nn.Module, gradients: Gradients, site: SiteImages) -> None:
        """Keep to sizes of chunks that tell nothing, seen on random weights and random images."""
        config, shape = self._config, site.images.shape[1:]
        rows = (config.privacy.augmentations, config.privacy.noise_draws)
        layout = (config.training.channels_last, config.privacy.gradients, gradients.sizes)
        machine = (str(self._device), torch.get_num_threads(), config.diffusion.prediction)
        kind = (config.model, shape, self._num_classes, rows, layout, machine)
        with _FINDING_SIZES:
            if kind not in _FOUND_SIZES:
                draws, num = SeededRandomness(0), gradients.sizes[-1]
                with torch.no_grad():
                    for parameter in network.parameters():
                        noise = draws.normal(parameter.numel()).view(parameter.shape)
                        parameter.add_(0.05 * noise.to(parameter))
                pixels = draws.integers(num * math.prod(shape), below=256).view(num, *shape)
                anything = SiteImages(
                    images=pixels.numpy().astype(np.uint8), labels=np.zeros(num, dtype=np.int64)
                )
                gradients.verify(self._rows(anything, np.arange(num), randomness=draws))
                _FOUND_SIZES[kind] = gradients.sizes
            gradients.sizes = _FOUND_SIZES[kind]


def _check(config: RunConfig) -> None:
    if config.privacy.unit != "record":
        raise ConfigError("privacy.unit: this trainer is for record only")
    if config.training.autocast != "off":
        raise ConfigError(
            "training.autocast: gradients of single images are clipped in float32 only; set it to "
            "off with privacy.unit = record"
        )
    if config.training.compile:
        raise ConfigError(
            "training.compile: gradients of single images were not verified under torch.compile; "
            "set it to false with privacy.unit = record"
        )
