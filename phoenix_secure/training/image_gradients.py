"""Gradients for private training, of images or persons: what enters, from which draws, and how."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.persons import persons_of
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.chunks import ImageRows, chunk_counts
from phoenix_secure.privacy.per_image import Gradients, make_gradients
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.augmentation import augmented_rows
from phoenix_secure.training.data_parallel import DataParallel, opened
from phoenix_secure.training.network import network_for
from phoenix_secure.training.parameters import load_vector
from phoenix_secure.training.shared_gradients import SharedGradients

__all__ = ["ImageGradients"]

# Trained networks stay within tens, and beyond a thousand times that float32 overflows for every
# image. Such weights come of a run that diverges, or of a server that looks for one that does not.
_MOST_WEIGHT = 1e4
# Sizes of chunks by everything that decides kernels: a process looks once.
_FOUND_SIZES: dict[Hashable, tuple[int, ...]] = {}
_FINDING_SIZES = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class _Sample:
    """One step's Poisson sample: images (n,), and the persons they are of under unit group."""

    images: np.ndarray
    persons: PersonMeans | None


class ImageGradients:
    """The part that all trainers with a guarantee per image or person share; one network per
    thread.

    Raises:     ConfigError for settings under which gradients of single images mean nothing.
    """

    def __init__(self, config: RunConfig, *, num_classes: int, device: torch.device) -> None:
        _check(config)
        self._config = config
        self._num_classes = num_classes
        self._device = device
        self._objective = Objective(config.diffusion, device=device)
        self._local = threading.local()
        self._group: DataParallel | None = None

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
        if max(global_vector.max(initial=0.0), -global_vector.min(initial=0.0)) > _MOST_WEIGHT:
            raise TrainingError(
                f"weights beyond {_MOST_WEIGHT:g} came for round {round_number}: lower "
                "training.learning_rate or federation.server_learning_rate"
            )
        network.train()
        return network, gradients

    def _put_back(self, network: torch.nn.Module, gradients: Gradients) -> None:
        self._local.network = network, gradients

    def _sample(self, site: SiteImages, *, randomness: Randomness) -> _Sample:
        """Each image, or each person with at most ``images_per_group`` of her images, is in it with
        probability ``sampling_rate``, by itself.

        Raises:     DataError where persons are meant and the images do not say whose they are.
        """
        privacy = self._config.privacy
        if privacy.unit == "record":
            index = randomness.included(len(site.images), probability=privacy.sampling_rate)
            return _Sample(images=index, persons=None)
        persons = persons_of(site.groups, num_images=len(site.images))
        drawn = randomness.included(len(persons), probability=privacy.sampling_rate)
        chosen = [
            _some_of(persons[person], most=privacy.images_per_group, randomness=randomness)
            for person in drawn.tolist()
        ]
        return _Sample(
            images=np.concatenate([np.empty(0, np.int64), *chosen]),
            persons=PersonMeans([len(each) for each in chosen]),
        )

    def _chunks(
        self,
        site: SiteImages,
        sample: _Sample,
        *,
        sizes: tuple[int, ...],
        randomness: Randomness,
    ) -> Iterator[ImageRows]:
        """The rows of ``sample``, in chunks that may cut a person's images in two."""
        start = 0
        for count in chunk_counts(len(sample.images), sizes):
            yield self._rows(site, sample.images[start : start + count], randomness=randomness)
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
        group = opened(
            self._group, self._config, site, num_classes=self._num_classes, device=self._device
        )
        if getattr(self._local, "network", None) is None or group is not self._group:
            self._group = group
            network = network_for(
                self._config, site.form, num_classes=self._num_classes, device=self._device
            )
            privacy = self._config.privacy
            gradients = make_gradients(
                privacy.gradients, network, physical_batch=privacy.physical_batch
            )
            if group is not None:
                gradients = SharedGradients(gradients, network, group)
            self._verify(network, gradients, site)
            self._local.network = network, gradients
        found: tuple[torch.nn.Module, Gradients] = self._local.network
        return found

    def _verify(self, network: torch.nn.Module, gradients: Gradients, site: SiteImages) -> None:
        """Keep to sizes of chunks that tell nothing, seen on random weights and random images."""
        config, shape = self._config, site.images.shape[1:]
        rows = (config.privacy.augmentations, config.privacy.noise_draws)
        layout = (config.training.channels_last, config.privacy.gradients, gradients.sizes)
        machine = (
            config.training.devices,
            str(self._device),
            torch.get_num_threads(),
            config.diffusion.prediction,
        )
        kind = (config.model, shape, self._num_classes, rows, layout, machine)
        with _FINDING_SIZES:
            # Other processes are looked at each time: they are new ones.
            if kind not in _FOUND_SIZES or self._group is not None:
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


def _some_of(images: np.ndarray, *, most: int, randomness: Randomness) -> np.ndarray:
    """At most ``most`` of a person's ``images``, each set of so many as likely as any other (but
    for equal 32-bit draws, one pair in 2^32)."""
    if len(images) <= most:
        return images
    draws = randomness.integers(len(images), below=1 << 32).numpy()
    chosen: np.ndarray = images[np.sort(np.argsort(draws, kind="stable")[:most])]
    return chosen


def _check(config: RunConfig) -> None:
    unit = config.privacy.unit
    if not config.privacy.is_dp_sgd:
        raise ConfigError("privacy.unit: this trainer is for record and group only")
    if config.training.autocast != "off":
        raise ConfigError(
            "training.autocast: gradients of single images are clipped in float32 only; set it to "
            f"off with privacy.unit = {unit}"
        )
    if config.training.compile:
        raise ConfigError(
            "training.compile: gradients of single images were not verified under torch.compile; "
            f"set it to false with privacy.unit = {unit}"
        )
