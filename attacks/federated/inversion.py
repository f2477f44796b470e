"""Gradient inversion of one step: the worst case of showing a site's gradient to anyone.

Source:     Zhu, Liu, Han (2019), DLG, arXiv:1906.08935; Geiping et al. (2020), arXiv:2003.14053
            (cosine and total variation); Huang et al. (2024), arXiv:2405.20380 (diffusion: image
            and noise are optimised jointly when noise and timestep are unknown).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from attacks.records import Progress, no_progress

__all__ = ["Inversion", "Matching", "Vjp", "finite_difference_vjp", "invert", "psnr"]

Gradient = Callable[[NDArray[np.float64]], NDArray[np.floating]]
"""u (any shape, the unknowns) -> (D,), the gradient a site would send for them."""
Vjp = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.floating]]
"""(u, v) -> d(gradient(u) . v) / du, of u's shape: one double backward pass in an autograd."""


class Matching(Enum):
    """Distance between two gradients."""

    L2 = "squared distance, relative to the observed gradient"
    COSINE = "1 - cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inversion:
    """reconstruction has the unknowns' shape; mismatch is the objective reached, 0 = explained.

    mismatches: of every restart. A low mismatch does not prove that the image was found: several
                images can share a gradient.
    """

    reconstruction: NDArray[np.float64]
    mismatch: float
    mismatches: tuple[float, ...]
    num_evaluations: int


def invert(
    observed: ArrayLike,
    *,
    gradient: Gradient,
    vjp: Vjp | None,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    bounds: tuple[float, float] | None = (-1.0, 1.0),
    matching: Matching = Matching.L2,
    tv_weight: float = 0.0,
    num_restarts: int = 3,
    num_iterations: int = 300,
    progress: Progress = no_progress,
) -> Inversion:
    """argmin_u distance(gradient(u), observed) + tv_weight TV(u), by L-BFGS-B from random starts.

    u is the image (C, H, W) or (N, C, H, W) when noise and timestep are known; otherwise let u hold
    image and noise together and ``gradient`` take it apart (with ``bounds=None``). The start and
    the choice of restart use the mismatch alone, never the true image.

    vjp:        None differentiates ``gradient`` numerically: 2 u.size evaluations per iteration.
    Raises:     ValueError for a zero, empty or non-finite observed gradient, or answers of another
                shape.
    """
    target = np.asarray(observed, dtype=np.float64)
    if target.ndim != 1 or target.size == 0 or not np.isfinite(target).all():
        raise ValueError(f"observed: expected a finite (D,) gradient, got {target.shape}")
    if not target.any():
        raise ValueError("observed: the gradient is zero and holds no information")
    if num_restarts < 1 or num_iterations < 1 or tv_weight < 0:
        raise ValueError("expected num_restarts >= 1, num_iterations >= 1 and tv_weight >= 0")
    pull = finite_difference_vjp(gradient) if vjp is None else vjp
    evaluations = 0

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal evaluations
        evaluations += 1
        u = flat.reshape(shape)
        answer = np.asarray(gradient(u), dtype=np.float64)
        if answer.shape != target.shape or not np.isfinite(answer).all():
            raise ValueError(f"gradient: expected finite {target.shape}, got {answer.shape}")
        value, slope = _distance(answer, target, matching=matching)
        pulled = np.asarray(pull(u, slope), dtype=np.float64).reshape(shape)
        roughness, roughness_slope = _total_variation(u) if tv_weight else (0.0, 0.0)
        total = pulled + tv_weight * roughness_slope
        return value + tv_weight * roughness, np.ravel(total)

    limits = None if bounds is None else [bounds] * int(np.prod(shape))
    found, values = [], []
    for restart in range(num_restarts):
        start = rng.normal(0.0, 0.3, size=int(np.prod(shape)))
        if bounds is not None:
            start = np.clip(start, *bounds)
        result = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={
                "maxiter": num_iterations,
                "maxfun": 4 * num_iterations,
                "ftol": 1e-15,
                "gtol": 1e-12,
                "maxcor": 30,
            },
        )
        found.append(np.asarray(result.x, dtype=np.float64).reshape(shape))
        values.append(float(result.fun))
        progress(restart + 1, num_restarts)
    best = int(np.argmin(values))
    return Inversion(
        reconstruction=found[best],
        mismatch=values[best],
        mismatches=tuple(values),
        num_evaluations=evaluations,
    )


def finite_difference_vjp(gradient: Gradient, *, step: float = 1e-4) -> Vjp:
    """Central differences along every coordinate of u; for small images only."""

    def vjp(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.floating]:
        out = np.empty(u.size)
        for index in range(u.size):
            shift = np.zeros(u.size)
            shift[index] = step
            ahead = gradient(u + shift.reshape(u.shape))
            behind = gradient(u - shift.reshape(u.shape))
            out[index] = (np.asarray(ahead) - np.asarray(behind)) @ v / (2 * step)
        return out.reshape(u.shape)

    return vjp


def psnr(reconstruction: ArrayLike, *, truth: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1] (peak 2); above 30 is the picture."""
    a, b = np.asarray(reconstruction, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"expected equal shapes, got {a.shape} and {b.shape}")
    error = float(((a - b) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(4 / error))


def _distance(
    answer: NDArray[np.float64], target: NDArray[np.float64], *, matching: Matching
) -> tuple[float, NDArray[np.float64]]:
    """The objective and its derivative in ``answer``."""
    match matching:
        case Matching.L2:
            scale = float(target @ target)
            gap = answer - target
            return float(gap @ gap) / scale, 2 * gap / scale
        case Matching.COSINE:
            size, target_size = float(np.linalg.norm(answer)), float(np.linalg.norm(target))
            if size == 0:
                return 1.0, np.zeros_like(answer)
            cosine = float(answer @ target) / (size * target_size)
            slope = cosine * answer / size**2 - target / (size * target_size)
            return 1 - cosine, slope


def _total_variation(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """mean |difference| along the last two axes, smoothed at 0, and its derivative."""
    total, slope = 0.0, np.zeros_like(u)
    for axis in (-2, -1):
        step = np.diff(u, axis=axis)
        size = np.sqrt(step**2 + 1e-8)
        total += float(size.sum()) / u.size
        ahead = [slice(None)] * u.ndim
        behind = [slice(None)] * u.ndim
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        slope[tuple(ahead)] += step / size / u.size
        slope[tuple(behind)] -= step / size / u.size
    return total, slope
