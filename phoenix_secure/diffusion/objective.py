"""Training objectives: the network predicts epsilon, v, or EDM's preconditioned target.

Every draw comes from the source that the caller passes, on the CPU, and is then moved: the same
seed gives the same noise on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from phoenix_secure.config import DiffusionConfig
from phoenix_secure.diffusion.schedule import alpha_bar

__all__ = ["Denoiser", "Draws", "Objective", "TrainingPair", "q_sample"]


class Denoiser(Protocol):
    """The network as the loss sees it: (images, times, labels) -> raw output of the same shape."""

    def __call__(
        self, images: torch.Tensor, times: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor: ...


class Draws(Protocol):
    """A source of random numbers other than torch's: each answer is (num,), on the CPU."""

    def normal(self, num: int) -> torch.Tensor:
        """Standard normal values."""

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        """Uniform whole numbers in [0, below)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPair:
    """One regression problem: ``weight * (network(inputs, times) - target)^2``."""

    inputs: torch.Tensor  # (B, C, H, W)
    times: torch.Tensor  # (B,) int64 timesteps, or float log(sigma) / 4 for EDM
    target: torch.Tensor  # (B, C, H, W)
    weight: torch.Tensor  # (B,)

    def loss(self, output: torch.Tensor) -> torch.Tensor:
        """Weighted mean squared error (B,) of the network's ``output`` (B, C, H, W)."""
        return self.weight * (output - self.target).square().flatten(1).mean(dim=1)


def q_sample(x0: torch.Tensor, eps: torch.Tensor, alpha_bar_t: torch.Tensor) -> torch.Tensor:
    """Noised images ``sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps``; ``alpha_bar_t`` is (B,).

    Source:     Ho et al. (2020), equation 4.
    """
    a = alpha_bar_t.view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


class Objective:
    """The training loss of one prediction type."""

    def __init__(self, diffusion: DiffusionConfig, *, device: torch.device) -> None:
        self._diffusion = diffusion
        self._alpha_bar = alpha_bar(diffusion).float().to(device)

    def loss(
        self,
        network: Denoiser,
        x0: torch.Tensor,
        labels: torch.Tensor | None,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Weighted mean squared error of each image.

        Shape:      x0 (B, C, H, W) in [-1, 1] -> (B,), so that a caller may clip per image.
        """
        pair = self.pair(x0, generator=generator)
        return pair.loss(network(pair.inputs, pair.times, labels))

    def pair(self, x0: torch.Tensor, *, generator: torch.Generator) -> TrainingPair:
        """Sample a noise level and noise for each image, with the network's target."""
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        if self._diffusion.prediction == "edm":
            return self._edm_pair(x0, eps, torch.randn(len(x0), generator=generator))
        t = torch.randint(self._diffusion.num_timesteps, (len(x0),), generator=generator)
        return self._ddpm_pair(x0, eps, t)

    def secret_pair(self, x0: torch.Tensor, *, draws: Draws) -> TrainingPair:
        """:meth:`pair` from a source whose draws nobody can search for."""
        eps = draws.normal(x0.numel()).float().view(x0.shape).to(x0.device)
        if self._diffusion.prediction == "edm":
            return self._edm_pair(x0, eps, draws.normal(len(x0)).float())
        t = draws.integers(len(x0), below=self._diffusion.num_timesteps)
        return self._ddpm_pair(x0, eps, t)

    def _ddpm_pair(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> TrainingPair:
        t = t.to(x0.device)
        a = self._alpha_bar[t]
        # Salimans and Ho (2022), section 4: v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.
        target = q_sample(eps, -x0, a) if self._diffusion.prediction == "v" else eps
        return TrainingPair(
            inputs=q_sample(x0, eps, a), times=t, target=target, weight=self._weight(a)
        )

    def _weight(self, a: torch.Tensor) -> torch.Tensor:
        """Min-SNR weight of Hang et al. (2023), section 3.4, for the prediction in use."""
        gamma = self._diffusion.min_snr_gamma
        if gamma is None:
            return torch.ones_like(a)
        snr = a / (1 - a)
        divisor = snr + 1 if self._diffusion.prediction == "v" else snr
        return snr.clamp(max=gamma) / divisor

    def _edm_pair(self, x0: torch.Tensor, eps: torch.Tensor, level: torch.Tensor) -> TrainingPair:
        """Karras et al. (2022), table 1 and equation 8: lambda(sigma) c_out^2 = 1, so weight 1.

        ``level`` is standard normal (B,).
        """
        d = self._diffusion
        log_sigma = (level * d.edm_p_std + d.edm_p_mean).to(x0.device)
        sigma = log_sigma.exp().view(-1, 1, 1, 1)
        total = sigma**2 + d.edm_sigma_data**2
        c_skip = d.edm_sigma_data**2 / total
        c_out = sigma * d.edm_sigma_data / total.sqrt()
        noised = x0 + sigma * eps
        return TrainingPair(
            inputs=noised / total.sqrt(),
            times=log_sigma / 4,
            target=(x0 - c_skip * noised) / c_out,
            weight=torch.ones_like(log_sigma),
        )
