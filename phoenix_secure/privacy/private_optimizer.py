"""Opacus' DPOptimizer with noise from our source and steps of empty batches."""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer

from phoenix_secure.privacy.randomness import Randomness

__all__ = ["PrivateOptimizer"]


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """One step on ``(sum of clipped gradients + noise) / divisor``.

    Clipped gradients are put into ``parameter.summed_grad`` (float64) before, by
    ``per_image.Gradients``.

    Units:      clip_norm in gradient units, noise_multiplier in clip norms; the noise has standard
                deviation noise_multiplier * clip_norm in every coordinate of the sum.
    Guarantee:  with sampling at rate q, one step is the Poisson-subsampled Gaussian mechanism; the
                divisor is a public constant. A step with no image is a step of noise.
    Source:     Abadi et al. (2016), algorithm 1, arXiv:1607.00133.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        clip_norm: float,
        divisor: int,
        randomness: Randomness,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip_norm,
            expected_batch_size=divisor,
        )
        self._randomness = randomness

    def private_step(self) -> None:
        """Add noise, divide, step; then forget the sum."""
        self.add_noise()
        self.scale_grad()
        self.original_optimizer.step()
        for parameter in self.params:
            parameter.grad = None
            parameter.summed_grad = None

    def add_noise(self) -> None:
        """Noise from the secure source, in float64, rounded once together with the sum."""
        scale = self.noise_multiplier * self.max_grad_norm
        sizes = [parameter.numel() for parameter in self.params]
        noise = self._randomness.normal(sum(sizes)).mul_(scale).to(self.params[0].device)
        for parameter, total in zip(self.params, torch.split(noise, sizes), strict=True):
            if parameter.summed_grad is not None:
                total += parameter.summed_grad.flatten()
            parameter.grad = total.view(parameter.shape).to(parameter.dtype)

    def scale_grad(self) -> None:
        """Divide by the public constant, never by the number of images."""
        for parameter in self.params:
            parameter.grad.div_(self.expected_batch_size)
