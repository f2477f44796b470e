"""One site, one round under record- or group-level differential privacy: DP-SGD on the diffusion
loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.private_optimizer import PrivateOptimizer
from phoenix_secure.privacy.randomness import Randomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.image_gradients import ImageGradients
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.steps import finite_change, local_steps

__all__ = ["PrivateTrainer", "public_steps"]


class PrivateTrainer(ImageGradients):
    """Trains like :class:`LocalTrainer`, but nothing it answers depends much on any one image, or
    on all images of any one person (``privacy.unit`` group).

    Guarantee:  ``delta`` is the outcome of ``local_steps`` Poisson-sampled Gaussian mechanisms
                with rate ``privacy.sampling_rate`` and ``noise_multiplier`` (neighbours: add or
                remove one image of the site, or all of one person), whatever was released before.
                ``num_images``, ``loss`` and ``seconds`` are not covered: they are for the site's
                own eyes.
                Only with ``privacy.noise_source`` secure, where every draw (which images enter a
                step, their copies, timesteps, noises and dropped labels, and the noise) is made
                under a key of the operating system; with ``seeded`` whoever knows the seed can
                take the noise away again.
    Notes:      The batch's divisor is the public constant ``training.batch_size``. One image's
                gradient (one person's: the mean over at most ``images_per_group`` of her images,
                drawn anew in each step) is clipped in place of ``training.grad_clip``, which has no
                part here.
                An image whose gradient is not finite adds nothing, and leaves no trace in the
                update, the loss or the log: an error would tell of it.
    Raises:     ConfigError for settings under which this would not hold.
    Source:     Abadi et al. (2016), algorithm 1; Dockhorn et al. (2023), section 3.2, for several
                draws of one image inside its one gradient. For persons: Levy et al. (2021),
                arXiv:2102.11845, and McMahan et al. (2018), arXiv:1710.06963 (user-level DP).
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        num_classes: int,
        device: torch.device,
        noise_multiplier: float,
    ) -> None:
        super().__init__(config, num_classes=num_classes, device=device)
        if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
            raise ValueError(f"expected a finite noise_multiplier > 0, got {noise_multiplier}")
        public_steps(config)
        self._noise_multiplier = noise_multiplier

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
        network, gradients = self._loaded(global_vector, site, round_number=round_number)
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
            sample = self._sample(site, randomness=randomness)
            gradients.begin()
            for rows in self._chunks(site, sample, sizes=gradients.sizes, randomness=randomness):
                losses.append(
                    gradients.accumulate(
                        rows, clip_norm=self._config.privacy.clip_norm, persons=sample.persons
                    )
                )
            losses.append(gradients.complete())
            _pull(network, anchor, strength=rate * config.proximal_mu)
            optimizer.private_step()
            progress(len(sample.images))
        self._put_back(network, gradients)
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

    def _optimizer(self, network: torch.nn.Module, *, randomness: Randomness) -> PrivateOptimizer:
        config, privacy = self._config.training, self._config.privacy
        kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
        inner = kind(
            network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        return PrivateOptimizer(
            inner,
            noise_multiplier=self._noise_multiplier,
            clip_norm=privacy.clip_norm,
            divisor=config.batch_size,
            randomness=randomness,
        )


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
