"""How a model that others trained is read: its pixel scale, and whether its answers make sense.

A folder states what its network predicts, and nothing states on which pixels it was trained. Read
in a wrong way, a network that memorised its images shows less of them, or nothing. A network that
is read right removes noise from images of the kind it was trained on; so it is measured how well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from phoenix_secure.audit.denoiser import PipelineDenoiser, implied_noise
from phoenix_secure.audit.records import Labels, Records

__all__ = ["PixelScale", "Reading", "read_model"]

_NUM_IMAGES = 64
_LEVELS = (0.9, 0.5)  # of alpha_bar, at which scale and prediction show
_CLEARLY = 0.7  # of the error, that another reading must leave less than
_REMOVES = 0.9  # of the noise, that a denoiser must leave less than
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


class PixelScale(StrEnum):
    """The range that black and white had in training."""

    SIGNED = "[-1, 1]"
    UNIT = "[0, 1]"
    HALF = "[-0.5, 0.5]"

    def of(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """``x`` in [-1, 1], on this scale."""
        match self:
            case PixelScale.SIGNED:
                return x
            case PixelScale.UNIT:
                return (x + np.float32(1)) / np.float32(2)
            case PixelScale.HALF:
                return x / np.float32(2)

    def undo(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """``x`` on this scale, in [-1, 1]."""
        match self:
            case PixelScale.SIGNED:
                return x
            case PixelScale.UNIT:
                return x * np.float32(2) - np.float32(1)
            case PixelScale.HALF:
                return x * np.float32(2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """scale: the one that attacks use.

    doubts: reasons, in words, why the model may know its members better than it seems to as it is
            read. With one of them, a clean result says nothing.
    """

    scale: PixelScale = PixelScale.SIGNED
    doubts: tuple[str, ...] = ()


def read_model(
    model: PipelineDenoiser,
    records: Records,
    *,
    with_classes: bool,
    rng: np.random.Generator,
) -> Reading:
    """The pixel scale on which ``model`` removes noise best, and what looks wrong all the same.

    The squared error of the predicted image counts in units of the images' own variance, which a
    narrower scale would otherwise make small by itself: a network that removes nothing is four
    times worse on [0, 1], and so stays on [-1, 1], as diffusers' pipelines have it.

    with_classes   ask with each image's own class
    Cost:       at most 640 queries.
    """
    some = records.take(np.arange(min(_NUM_IMAGES, len(records.images))))
    labels = some.labels if with_classes else None
    noise = rng.standard_normal(some.images.shape)
    found = {
        scale: _errors(model, scale.of(some.images), labels=labels, noise=noise)
        for scale in PixelScale
    }
    stated = model.process.prediction
    scale = min(PixelScale, key=lambda each: found[each].of_image(stated))
    best = found[scale]
    doubts = []
    if min(best.left[stated]) > _REMOVES:
        doubts.append(
            "the model removes no noise from these images as its folder says it should: its pixel "
            "scale, prediction_type or schedule is another, or it was trained on other images"
        )
    for name in best.left:
        if best.beats_guessing(name) and _is_clearly_less(best.left[name], best.left[stated]):
            doubts.append(
                f"the model removes noise better when its answers are read as {name} than as "
                f"{stated}: check prediction_type in scheduler/scheduler_config.json"
            )
    for name, pixels in _beyond(some.images):
        other = _errors(model, pixels, labels=labels, noise=noise)
        if _is_clearly_less(other.left[stated], best.left[stated]):
            doubts.append(
                f"the model removes noise better from pixels {name} than in {scale}: it was "
                "trained on those, and an audit asks it in "
                f"{', '.join(each.value for each in PixelScale)} alone"
            )
    return Reading(scale=scale, doubts=tuple(doubts))


def _is_clearly_less(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Less at every level, and by ``_CLEARLY`` in the geometric mean."""
    ratios = np.array(first) / np.maximum(second, 1e-300)
    return bool((ratios < 1).all() and np.exp(np.log(np.maximum(ratios, 1e-300)).mean()) < _CLEARLY)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Errors:
    """left: by how an answer is read, the share of the noise's power that stays, level by level.

    signal: the images' variance times alpha_bar / (1 - alpha_bar), level by level.
    """

    left: dict[str, tuple[float, ...]]
    signal: tuple[float, ...]

    def beats_guessing(self, prediction: str) -> bool:
        """Less noise stays than if every image were taken for their mean, shrunk as is best."""
        signal = np.array(self.signal)
        return bool((np.array(self.left[prediction]) < signal / (1 + signal)).all())

    def of_image(self, prediction: str) -> float:
        """Squared error of the predicted image over the images' variance, geometric mean."""
        errors = np.array(self.left[prediction]) / np.array(self.signal)
        return float(np.exp(np.log(np.maximum(errors, 1e-300)).mean()))


def _errors(
    model: PipelineDenoiser,
    x: NDArray[np.float32],
    *,
    labels: Labels | None,
    noise: NDArray[np.float64],
) -> _Errors:
    """How well ``model`` predicts ``x``, when its answers are read in each way."""
    process, variance = model.process, max(float(x.astype(np.float64).var()), 1e-12)
    names = _PREDICTIONS if process.sigma_data is None else (process.prediction,)
    left: dict[str, list[float]] = {name: [] for name in names}
    signal = []
    for t in sorted({int(np.argmin(np.abs(model.alpha_bar - level))) for level in _LEVELS}):
        a = float(model.alpha_bar[t])
        z = np.sqrt(a) * x + np.sqrt(1 - a) * noise
        eps = model.noise(z.astype(np.float32), np.full(len(z), t, np.int64), labels=labels)
        for name in names:
            seen = eps.astype(np.float64)
            if name != process.prediction:
                seen = _read_as(name, seen, z, a, stated=process.prediction)
            left[name].append(float(((seen - noise) ** 2).mean()))
        signal.append(variance * a / (1 - a))
    return _Errors(
        left={name: tuple(values) for name, values in left.items()}, signal=tuple(signal)
    )


def _read_as(
    prediction: str,
    eps: NDArray[np.float64],
    z: NDArray[np.float64],
    a: float,
    *,
    stated: str,
) -> NDArray[np.float64]:
    """The noise, had the network's answer been a ``prediction`` and not what is ``stated``."""
    match stated:
        case "v_prediction":
            answer = (eps - np.sqrt(1 - a) * z) / np.sqrt(a)
        case "sample":
            answer = (z - np.sqrt(1 - a) * eps) / np.sqrt(a)
        case _:
            answer = eps
    found = implied_noise(
        torch.from_numpy(answer),
        torch.from_numpy(z),
        torch.tensor(a, dtype=torch.float64),
        prediction=prediction,
    )
    return np.asarray(found.numpy(), dtype=np.float64)


def _beyond(x: NDArray[np.float32]) -> tuple[tuple[str, NDArray[np.float32]], ...]:
    """Scales on which images leave [-1, 1]: attacks cannot ask on those, but can notice them."""
    axes = (0, 2, 3)
    mean, spread = x.mean(axis=axes, keepdims=True), x.std(axis=axes, keepdims=True)
    standard = (x - mean) / np.maximum(spread, np.float32(1e-6))
    return (
        ("of mean 0 and deviation 1", standard.astype(np.float32)),
        ("in [0, 255]", (x + np.float32(1)) * np.float32(127.5)),
    )
