"""One private step: clipped sum, noise of the right size, a public divisor."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from phoenix_secure.privacy.private_optimizer import PrivateOptimizer
from phoenix_secure.privacy.randomness import SecureRandomness


def optimizer_of(
    parameter: nn.Parameter, *, noise_multiplier: float, clip_norm: float, divisor: int
):
    return PrivateOptimizer(
        torch.optim.SGD([parameter], lr=1.0),
        noise_multiplier=noise_multiplier,
        clip_norm=clip_norm,
        divisor=divisor,
        randomness=SecureRandomness(entropy=lambda size: bytes(range(size))),
    )


@pytest.mark.parametrize("has_images", [True, False])
def test_step_is_the_noised_sum_over_the_public_divisor(has_images: bool) -> None:
    parameter = nn.Parameter(torch.zeros(20_000))
    optimizer = optimizer_of(parameter, noise_multiplier=1.5, clip_norm=0.2, divisor=8)
    shift = torch.full((20_000,), 3.0) if has_images else torch.zeros(20_000)
    if has_images:
        parameter.summed_grad = shift.clone()
    optimizer.private_step()
    noise = (-parameter.detach() * 8 - shift).numpy() / (1.5 * 0.2)
    assert stats.kstest(noise, "norm").pvalue > 0.01
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(noise * wrong, "norm").pvalue < 1e-6
    assert parameter.summed_grad is None
    assert parameter.grad is None


def test_every_step_draws_new_noise() -> None:
    parameter = nn.Parameter(torch.zeros(50))
    optimizer = optimizer_of(parameter, noise_multiplier=1.0, clip_norm=1.0, divisor=1)
    optimizer.private_step()
    first = parameter.detach().clone()
    optimizer.private_step()
    second = parameter.detach() - first
    assert not torch.equal(first, second)
    assert len(torch.unique(torch.cat([first, second]))) == 100
