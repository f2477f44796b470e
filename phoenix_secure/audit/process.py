"""The diffusion process behind a network: read from its scheduler, and checked against it.

A network that is asked at another noise level than it was trained at shows less of its members, and
nothing tells. So only schedulers whose process is known are read, and the level of each timestep is
compared with what the scheduler's own ``add_noise`` makes of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phoenix_secure.errors import CheckpointError

__all__ = ["DISCRETE", "Process", "process_of"]

# z_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) eps at whole timesteps (some keep z_t / sqrt
# (alpha_bar_t) and scale the network's input back).
DISCRETE = frozenset(
    {
        "DDIMParallelScheduler",
        "DDIMScheduler",
        "DDPMParallelScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "UniPCMultistepScheduler",
    }
)
# Those with the preconditioning of Karras et al. (2022); others keep a sigma_data, too.
_EDM = frozenset({"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"})
_OTHER_KINDS = {
    "FlowM": "flow-matching",
    "CMStochastic": "consistency",
    "LCM": "consistency",
    "TCD": "consistency",
    "SCM": "consistency",
}
_EDM_TIMESTEPS = 1000
_PREDICTIONS = {name: name for name in ("epsilon", "v_prediction", "sample")}
_PREDICTIONS["original_sample"] = "sample"  # Euler's older word
_SMALLEST = 1e-9  # of alpha_bar: what lies below is pure noise and cannot be inverted
_NUM_CHECKED = 12
_SLACK = 0.02  # of log(alpha_bar / (1 - alpha_bar)): float32 beside float64
# How a sampler walks through the levels; the levels themselves do not depend on it.
_WALK = {
    "timestep_spacing": "linspace",
    "steps_offset": 0,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "lambda_min_clipped": -math.inf,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """The levels at which a network can be asked, and what its answer is.

    prediction:  epsilon, v_prediction or sample.
    alpha_bar:   (T,) float64, strictly decreasing.
    sigma_data:  of an EDM network, whose answer is preconditioned; None for all others. It has no
                 timesteps: its levels sigma = sqrt((1 - alpha_bar) / alpha_bar) are those of the
                 cosine schedule, the same process up to the scale of z.
    scheduler:   the name of the class.
    """

    prediction: str
    alpha_bar: NDArray[np.float64]
    sigma_data: float | None
    scheduler: str

    def __str__(self) -> str:
        kind = "preconditioned (EDM) " if self.sigma_data is not None else ""
        return (
            f"{self.scheduler}, {kind}{self.prediction}, {len(self.alpha_bar)} noise levels as in "
            "its add_noise"
        )


def process_of(scheduler: Any) -> Process:
    """The process of a diffusers scheduler.

    Guarantee:  alpha_bar is the signal's share of the power in the scheduler's own ``add_noise``.
    Source:     Karras et al. (2022), table 1 (EDM).
    Raises:     CheckpointError for a scheduler whose process cannot be told.
    """
    name = type(scheduler).__name__
    stated = str(getattr(scheduler.config, "prediction_type", "epsilon"))
    prediction = _PREDICTIONS.get(stated)
    if name in _EDM and prediction in ("epsilon", "v_prediction"):
        process = Process(
            prediction=prediction,
            alpha_bar=_cosine_levels(),
            sigma_data=float(scheduler.config.sigma_data),
            scheduler=name,
        )
        _check_edm(scheduler, process)
        return process
    config = scheduler.config
    if (
        name not in DISCRETE
        or prediction is None
        or getattr(config, "use_flow_sigmas", False)
        or getattr(config, "timestep_type", "discrete") != "discrete"
    ):
        raise _unknown(name, stated)
    betas = scheduler.betas.double().cpu().numpy()
    if len(betas) != int(config.num_train_timesteps):
        raise CheckpointError(
            f"the scheduler {name} has {len(betas)} betas for num_train_timesteps = "
            f"{config.num_train_timesteps}: give it one beta for each timestep of the training"
        )
    if not ((betas > 0) & (betas <= 1)).all():
        raise CheckpointError(
            f"the scheduler {name} has betas in {betas.min():g}..{betas.max():g}, and shares of "
            "noise lie above 0 and reach 1 at most: give it those of the training"
        )
    levels = np.cumprod(1 - betas)
    levels = levels[levels > _SMALLEST]
    if len(levels) < 2 or not (np.diff(levels) < 0).all() or not levels[0] < 1:
        raise _unknown(name, stated)
    process = Process(prediction=prediction, alpha_bar=levels, sigma_data=None, scheduler=name)
    _check_discrete(scheduler, process)
    return process


def _unknown(name: str, prediction: str) -> CheckpointError:
    for mark, kind in _OTHER_KINDS.items():
        if mark in name:
            return CheckpointError(
                f"the scheduler {name} is of a {kind} model: only DDPM and EDM processes can be "
                "audited; attack a folder of its samples in place of the model"
            )
    return CheckpointError(
        f"the scheduler {name} with prediction_type {prediction!r} is not known: save the "
        "pipeline with the DDPMScheduler or DDIMScheduler of its training"
    )


def _cosine_levels() -> NDArray[np.float64]:
    steps = np.arange(1, _EDM_TIMESTEPS + 1) / _EDM_TIMESTEPS
    cosine = np.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    levels = cosine / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    return np.asarray(levels[levels > _SMALLEST], dtype=np.float64)


def _check_discrete(scheduler: Any, process: Process) -> None:
    """Compare ``alpha_bar`` with ``add_noise`` at timesteps from both ends and between."""
    try:
        plain = _without_walk(scheduler)
        steps = np.arange(len(process.alpha_bar))
        if hasattr(plain, "sigmas"):  # it knows only the timesteps that it will walk through
            plain.set_timesteps(int(scheduler.config.num_train_timesteps))
            asked = plain.timesteps.double().cpu().numpy()
            whole = np.unique(asked[np.abs(asked - np.rint(asked)) < 1e-3].round().astype(np.int64))
            steps = whole[whole < len(process.alpha_bar)]
        places = np.unique(np.linspace(0, len(steps) - 1, _NUM_CHECKED).round().astype(np.int64))
        steps = steps[places]
        signal, noise = _added(plain, torch.from_numpy(steps))
    except Exception as error:  # each scheduler has errors of its own
        raise CheckpointError(
            f"the noise levels of the scheduler {process.scheduler} cannot be checked with its "
            f"add_noise ({type(error).__name__}): save the pipeline with "
            "DDIMScheduler.from_config(scheduler.config)"
        ) from error
    expected = process.alpha_bar[steps]
    found = np.log(signal**2) - np.log(noise**2)
    if not np.allclose(found, np.log(expected) - np.log1p(-expected), rtol=0, atol=_SLACK):
        raise CheckpointError(
            f"the scheduler {process.scheduler} adds other noise than its betas say: save the "
            "pipeline with the DDPMScheduler or DDIMScheduler of its training"
        )


def _check_edm(scheduler: Any, process: Process) -> None:
    """At sigma the network is given the time log(sigma) / 4: so must the scheduler's noise be."""
    times = scheduler.timesteps.flatten()
    finite = torch.isfinite(times)
    times = times[finite][:: max(1, int(finite.sum()) // _NUM_CHECKED)]
    signal, noise = _added(scheduler, times)
    found = np.log(noise) - np.log(signal)
    if not np.allclose(found, 4 * times.double().cpu().numpy(), rtol=0, atol=_SLACK):
        raise _unknown(process.scheduler, process.prediction)


def _without_walk(scheduler: Any) -> Any:
    changes = {name: value for name, value in _WALK.items() if name in scheduler.config}
    return type(scheduler).from_config(scheduler.config, **changes)


def _added(scheduler: Any, t: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factors of image and noise in the scheduler's ``add_noise`` at each of ``t``."""
    one = torch.ones(len(t), 1, 1, 1, dtype=torch.float64)
    zero = torch.zeros_like(one)
    signal = scheduler.add_noise(one, zero, t).double().flatten().cpu().numpy()
    noise = scheduler.add_noise(zero, one, t).double().flatten().cpu().numpy()
    return signal, noise
