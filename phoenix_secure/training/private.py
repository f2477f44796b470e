"""One site, one round under record-level differential privacy: DP-SGD on the diffusion loss."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.chunks import ImageRows, chunk_counts
from phoenix_secure.privacy.per_image import Gradients, make_gradients
from phoenix_secure.privacy.private_optimizer import PrivateOptimizer
from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.augmentation import augmented_rows
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.parameters import load_vector
from phoenix_secure.training.steps import finite_change, local_steps

__all__ = ["PrivateTrainer", "public_steps"]

# Trained networks stay within tens, and beyond a thousand times that float32 overflows for every
# image. Such weights come of a run that diverges, or of a server that looks for one that does not.
_MOST_WEIGHT = 1e4
# Sizes of chunks by everything that decides kernels: a process looks once.
_FOUND_SIZES: dict[Hashable, tuple[int, ...]] = {}
_FINDING_SIZES = threading.Lock()


class PrivateTrainer:
    """Trains like :class:`LocalTrainer`, but nothing it answers depends much on any one image.

    Guarantee:  ``delta`` is the outcome of ``local_steps`` Poisson-sampled Gaussian mechanisms
                with rate ``privacy.sampling_rate`` and ``noise_multiplier`` (neighbours: add or
                remove one image of the site), whatever was released before. ``num_images``,
                ``loss`` and ``seconds`` are not covered: they are for the site's own eyes.
                Only with ``privacy.noise_source`` secure, where every draw (which images enter a
                step, their copies, timesteps, noises and dropped labels, and the noise) is made
                under a key of the operating system; with ``seeded`` whoever knows the seed can
                take the noise away again.
    Notes:      The batch's divisor is the public constant ``training.batch_size``. One image's
                gradient is clipped in place of ``training.grad_clip``, which has no part here.
                An image whose gradient is not finite adds nothing, and leaves no trace in the
                update, the loss or the log: an error would tell of it.
    Raises:     ConfigError for settings under which this would not hold.
    Source:     Abadi et al. (2016), algorithm 1; Dockhorn et al. (2023), section 3.2, for several
                draws of one image inside its one gradient.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        num_classes: int,
        device: torch.device,
        noise_multiplier: float,
    ) -> None:
        _check(config, noise_multiplier=noise_multiplier)
        self._config = config
        self._num_classes = num_classes
        self._device = device
        self._noise_multiplier = noise_multiplier
        self._objective = Objective(config.diffusion, device=device)
        self._local = threading.local()

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
        """Train for one round (1-based ``round_number``); ``seeds`` count only for ``seeded``.

        ``loss`` is over images with a finite one: NaN in a round that drew none.
        Raises:     Cancelled between two steps; ValueError for weights that are not finite, before
                    any image is looked at; TrainingError when they are beyond 10,000, or become NaN
                    (they are noised already: saying so is no further release).
        """
        started = time.perf_counter()
        config = self._config.training
        network, gradients = self._network(site)
        # Put back after the last step: one that is cut short leaves sums without noise.
        self._local.network = None
        load_vector(network, global_vector)
        if np.abs(global_vector).max(initial=0.0) > _MOST_WEIGHT:
            raise TrainingError(
                f"weights beyond {_MOST_WEIGHT:g} came for round {round_number}: lower "
                "training.learning_rate or federation.server_learning_rate"
            )
        network.train()
        anchor = [p.detach().clone() for p in network.parameters()]
        randomness = self._randomness(seeds)
        optimizer = self._optimizer(network, randomness=randomness)
        num_steps = public_steps(self._config)
        losses: list[torch.Tensor] = []
        for rate in local_steps(
            self._config,
            optimizer,
            round_number=round_number,
            num_steps=num_steps,
            cancelled=cancelled,
        ):
            index = randomness.included(
                len(site.images), probability=self._config.privacy.sampling_rate
            )
            start = 0
            for count in chunk_counts(len(index), gradients.sizes):
                rows = self._rows(site, index[start : start + count], randomness=randomness)
                losses.append(gradients.accumulate(rows, clip_norm=self._config.privacy.clip_norm))
                start += count
            _pull(network, anchor, strength=rate * config.proximal_mu)
            optimizer.private_step()
            progress(len(index))
        self._local.network = network, gradients
        delta = finite_change(
            network,
            global_vector,
            round_number=round_number,
            advice="lower training.learning_rate",
        )
        return LocalUpdate(
            delta=delta,
            num_images=len(site.images),
            num_steps=num_steps,
            loss=_mean_of_finite(losses),
            seconds=time.perf_counter() - started,
        )

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

    def _optimizer(self, network: torch.nn.Module, *, randomness: Randomness) -> PrivateOptimizer:
        config, privacy = self._config.training, self._config.privacy
        kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
        inner = kind(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        return PrivateOptimizer(
            inner,
            noise_multiplier=self._noise_multiplier,
            clip_norm=privacy.clip_norm,
            divisor=config.batch_size,
            randomness=randomness,
        )

    def _network(self, site: SiteImages) -> tuple[torch.nn.Module, Gradients]:
        """This thread's network (its weights are overwritten before every use)."""
        if getattr(self._local, "network", None) is None:
            network = build_unet(
                self._config.model,
                image_size=site.images.shape[-1],
                channels=site.images.shape[1],
                num_classes=self._num_classes,
                seeds=SeedTree(0),
            ).to(self._device)
            if self._config.training.channels_last:
                network = network.to(memory_format=torch.channels_last)
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


def _mean_of_finite(losses: list[torch.Tensor]) -> float:
    """NaN where there is none; else a number, whatever single images did."""
    found = torch.cat(losses).double() if losses else torch.zeros(0)
    return float(found[found.isfinite()].mean())


def _pull(network: torch.nn.Module, anchor: list[torch.Tensor], *, strength: float) -> None:
    """FedProx's ``w -= lr mu (w - w_global)``, decoupled: it must not be rescaled by the noise.

    It reads released weights only, so that it costs no privacy.
    Source: Li et al. (2020), FedProx, equation 2; exactly its gradient step with plain SGD.
    """
    if strength == 0:
        return
    with torch.no_grad():
        for parameter, start in zip(network.parameters(), anchor, strict=True):
            parameter.lerp_(start, min(1.0, strength))


def public_steps(config: RunConfig) -> int:
    """The local steps of a private round: a constant, whatever a site holds.

    Raises:     ConfigError where they follow from the number of images.
    """
    if config.training.local_steps is None:
        raise ConfigError(
            "training.local_epochs would tell the number of images: set training.local_steps "
            f"(and local_epochs to null) with privacy.unit = {config.privacy.unit}"
        )
    return config.training.local_steps


def _check(config: RunConfig, *, noise_multiplier: float) -> None:
    if config.privacy.unit != "record":
        raise ConfigError("privacy.unit: this trainer is for record only")
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise ValueError(f"expected a finite noise_multiplier > 0, got {noise_multiplier}")
    public_steps(config)
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
