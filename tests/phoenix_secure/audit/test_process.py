"""The noise levels an audit asks at are those of the scheduler's own ``add_noise``, or none."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, EulerDiscreteScheduler

from phoenix_secure.audit.process import DISCRETE, process_of
from phoenix_secure.errors import CheckpointError

# Needs a package of its own to open at all.
INSTALLED = sorted(DISCRETE - {"DPMSolverSDEScheduler"})


def by_hand(scheduler: DDPMScheduler | DDIMScheduler, num: int) -> np.ndarray:
    """alpha_bar of each timestep, by noising an image of ones with noise of ones apart."""
    one, zero = torch.ones(num, 1, 1, 1), torch.zeros(num, 1, 1, 1)
    t = torch.arange(num)
    signal = scheduler.add_noise(one, zero, t).flatten().double() ** 2
    noise = scheduler.add_noise(zero, one, t).flatten().double() ** 2
    return (signal / (signal + noise)).numpy()


@pytest.mark.parametrize("name", INSTALLED)
def test_every_sampler_of_one_training_has_its_levels(name: str) -> None:
    settings = {"num_train_timesteps": 200, "beta_start": 1e-4, "beta_end": 0.05}
    found = process_of(getattr(diffusers, name)(**settings))
    np.testing.assert_allclose(found.alpha_bar, by_hand(DDPMScheduler(**settings), 200), rtol=1e-4)
    assert (found.prediction, found.sigma_data) == ("epsilon", None)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
        {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing"},
        {"rescale_betas_zero_snr": True, "prediction_type": "sample"},
        {"trained_betas": np.linspace(1e-3, 0.3, 50).tolist(), "num_train_timesteps": 50},
        {"steps_offset": 1, "clip_sample": False, "thresholding": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_the_levels_follow_the_settings(kind: type, settings: dict[str, object]) -> None:
    taken = {k: v for k, v in settings.items() if k in kind().config}
    found = process_of(kind(**taken))
    known = {k: v for k, v in taken.items() if k in DDIMScheduler().config}
    oracle = by_hand(DDIMScheduler(**known), len(found.alpha_bar))
    # A process that ends in pure noise loses the timesteps that nothing can be told from.
    assert len(found.alpha_bar) >= int(kind(**taken).config.num_train_timesteps) - 1
    np.testing.assert_allclose(found.alpha_bar, oracle, rtol=2e-3, atol=1e-7)
    assert found.prediction == settings.get("prediction_type", "epsilon")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CMStochasticIterativeScheduler", {}),
        ("LCMScheduler", {}),
        ("TCDScheduler", {}),
        ("SCMScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("IPNDMScheduler", {}),
        ("RePaintScheduler", {}),
        ("DDIMInverseScheduler", {}),
        ("DPMSolverMultistepInverseScheduler", {}),
        ("ScoreSdeVeScheduler", {}),
        ("DDPMScheduler", {"prediction_type": "x0"}),
        ("EDMEulerScheduler", {"prediction_type": "sample"}),
        (
            "UniPCMultistepScheduler",
            {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
        ),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True}),
        (
            "EulerDiscreteScheduler",
            {"timestep_type": "continuous", "prediction_type": "v_prediction"},
        ),
        ("DDPMScheduler", {"trained_betas": [0.1] * 50, "num_train_timesteps": 1000}),
        ("DDPMScheduler", {"beta_end": 1.5}),
        ("DDPMScheduler", {"trained_betas": [float("nan")] * 50, "num_train_timesteps": 50}),
    ],
)
def test_other_processes_are_refused_by_name(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=name):
        process_of(getattr(diffusers, name)(**settings))


def test_a_scheduler_that_adds_other_noise_than_its_betas_say_is_refused() -> None:
    class Shifted(DDPMScheduler):
        def add_noise(self, original_samples, noise, timesteps):
            return super().add_noise(original_samples, noise, (timesteps + 5) % 1000)

    Shifted.__name__ = "DDPMScheduler"
    with pytest.raises(CheckpointError, match="adds other noise than its betas say"):
        process_of(Shifted())


@pytest.mark.parametrize("settings", [{}, {"sigma_data": 0.3}, {"sigma_schedule": "exponential"}])
def test_edm_s_time_is_that_of_its_noise(settings: dict[str, object]) -> None:
    found = process_of(EDMEulerScheduler(**settings))
    assert found.sigma_data == settings.get("sigma_data", 0.5)
    assert "preconditioned (EDM) epsilon" in str(found)

    class Other(EDMEulerScheduler):
        def precondition_noise(self, sigma):
            return super().precondition_noise(sigma) * 2

    Other.__name__ = "EDMEulerScheduler"
    with pytest.raises(CheckpointError, match="not known"):
        process_of(Other())
