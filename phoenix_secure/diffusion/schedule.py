"""Noise schedules and samplers, built from diffusers' schedulers.

``alpha_bar[t] = prod_{s <= t} (1 - beta_s)`` with 0-based t, so ``alpha_bar[0] != 1``.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    SchedulerMixin,
)

from phoenix_secure.config import DiffusionConfig

__all__ = ["alpha_bar", "sampling_scheduler"]

_PREDICTION_NAMES = {"epsilon": "epsilon", "v": "v_prediction"}


def alpha_bar(diffusion: DiffusionConfig) -> torch.Tensor:
    """Signal power kept at each timestep.

    Shape:      (T,) float64, strictly decreasing, within (0, 1).
    Source:     linear: Ho et al. (2020), section 4, with both ends scaled by 1000 / T as in
                Nichol and Dhariwal (2021) so that every T ends in noise; cosine: Nichol and
                Dhariwal (2021), equation 17, betas capped at 0.999.
    """
    scheduler = DDPMScheduler(**_process(diffusion))
    betas: torch.Tensor = scheduler.betas
    return (1.0 - betas.double()).cumprod(dim=0)


def sampling_scheduler(diffusion: DiffusionConfig, *, sampler: str) -> SchedulerMixin:
    """The diffusers scheduler that samples images: ``ddpm``, ``ddim`` or ``dpm-solver``.

    For EDM, ``ddim`` is the deterministic Euler solver (the same first-order method) and
    ``dpm-solver`` its second-order multistep version; both carry the preconditioning.
    """
    if diffusion.prediction == "edm":
        edm = {"sigma_data": diffusion.edm_sigma_data}
        match sampler:
            case "ddim":
                return EDMEulerScheduler(**edm)
            case "dpm-solver":
                return EDMDPMSolverMultistepScheduler(**edm)
        raise ValueError(f"sampler {sampler!r} is not defined for prediction edm: use ddim")
    process = _process(diffusion) | {"prediction_type": _PREDICTION_NAMES[diffusion.prediction]}
    match sampler:
        case "ddpm":
            return DDPMScheduler(**process)
        case "ddim":
            # Trailing steps start at t = T - 1, where the process really is noise (Lin 2024).
            return DDIMScheduler(**process, timestep_spacing="trailing")
        case "dpm-solver":
            # The cosine schedule's last log-SNR is too low for the solver's expansion.
            floor = -5.1 if diffusion.schedule == "cosine" else -float("inf")
            return DPMSolverMultistepScheduler(**process, lambda_min_clipped=floor)
    raise ValueError(f"unknown sampler {sampler!r}: use ddpm, ddim or dpm-solver")


def _process(diffusion: DiffusionConfig) -> dict[str, Any]:
    if diffusion.schedule == "cosine":
        return {
            "num_train_timesteps": diffusion.num_timesteps,
            "beta_schedule": "squaredcos_cap_v2",
        }
    scale = 1000 / diffusion.num_timesteps
    return {
        "num_train_timesteps": diffusion.num_timesteps,
        "beta_schedule": "linear",
        "beta_start": 1e-4 * scale,
        "beta_end": min(0.02 * scale, 0.999),
    }
