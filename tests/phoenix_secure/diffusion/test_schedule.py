"""Noise schedules against the papers' formulas, and samplers that know the process."""

from __future__ import annotations

import math

import pytest
import torch

from phoenix_secure.config import DiffusionConfig
from phoenix_secure.diffusion.schedule import alpha_bar, sampling_scheduler


def cosine_oracle(num_timesteps: int) -> list[float]:
    """Nichol and Dhariwal (2021), equation 17, one step at a time."""

    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    product, values = 1.0, []
    for i in range(num_timesteps):
        beta = min(1 - f((i + 1) / num_timesteps) / f(i / num_timesteps), 0.999)
        product *= 1 - beta
        values.append(product)
    return values


def linear_oracle(num_timesteps: int) -> list[float]:
    """Ho et al. (2020), section 4, ends scaled by 1000 / T."""
    first, last = 1e-4 * 1000 / num_timesteps, min(0.02 * 1000 / num_timesteps, 0.999)
    product, values = 1.0, []
    for i in range(num_timesteps):
        product *= 1 - (first + (last - first) * i / (num_timesteps - 1))
        values.append(product)
    return values


@pytest.mark.parametrize("num_timesteps", [100, 1000])
@pytest.mark.parametrize(
    ("schedule", "oracle"), [("cosine", cosine_oracle), ("linear", linear_oracle)]
)
def test_alpha_bar_is_the_papers(schedule: str, oracle, num_timesteps: int) -> None:
    values = alpha_bar(DiffusionConfig(schedule=schedule, num_timesteps=num_timesteps))
    expected = torch.tensor(oracle(num_timesteps), dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("num_timesteps", [50, 200, 1000])
def test_the_process_always_ends_in_noise(schedule: str, num_timesteps: int) -> None:
    values = alpha_bar(DiffusionConfig(schedule=schedule, num_timesteps=num_timesteps))
    assert (values.diff() < 0).all()
    assert 0.99 > values[0] > 0.9 or values[0] >= 0.99
    assert values[-1] < 1e-3


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_samplers_walk_the_same_process(sampler: str, prediction: str) -> None:
    diffusion = DiffusionConfig(prediction=prediction)
    scheduler = sampling_scheduler(diffusion, sampler=sampler)
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), alpha_bar(diffusion), rtol=1e-3, atol=1e-8
    )
    assert (
        scheduler.config.prediction_type == {"epsilon": "epsilon", "v": "v_prediction"}[prediction]
    )


def test_unknown_samplers_are_refused() -> None:
    with pytest.raises(ValueError, match="use ddpm, ddim or dpm-solver"):
        sampling_scheduler(DiffusionConfig(), sampler="magic")
    with pytest.raises(ValueError, match="use ddim"):
        sampling_scheduler(DiffusionConfig(prediction="edm"), sampler="ddpm")
