"""A diffusers pipeline as the callable ``eps(z, t)`` that attacks know.

Whatever the network was trained to predict (epsilon, v, the image, or EDM's target), the attacks
see the noise that this prediction implies, at a 0-based timestep of one schedule ``alpha_bar``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phoenix_secure.audit.records import Labels
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.diffusion.split import LARGEST_PIECE
from phoenix_secure.errors import CheckpointError
from phoenix_secure.workers import even_slices, map_batches, workers

__all__ = ["PipelineDenoiser"]

_BATCH = 128
_SMALLEST = 1e-9  # of alpha_bar: what lies below is pure noise and cannot be inverted
_EDM_TIMESTEPS = 1000
# Those with the preconditioning of Karras et al. (2022); others keep a sigma_data, too.
_EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")


class PipelineDenoiser:
    """The noise in ``z`` at timestep ``t``, as the pipeline's network sees it.

    Shape:      z (N, C, H, W) float32 in the pixels of the *image* (folded pixels are folded and
                unfolded here), t (N,) int64; result like z.
    ``alpha_bar`` is (T,) float64, strictly decreasing. An EDM network has no timesteps: it is asked
    at the noise level sigma = sqrt((1 - alpha_bar) / alpha_bar) of the cosine schedule, the same
    process up to the scale of z. A class-conditional network is asked without a class where it has
    a null class (its last, in pipelines of this program), or for the class of each image.
    Source:     Salimans and Ho (2022), section 4 (v); Karras et al. (2022), table 1 (EDM).
    Raises:     CheckpointError for a pipeline whose process cannot be told.
    """

    def __init__(self, pipeline: Any, *, device: torch.device) -> None:
        self._unet = pipeline.unet.to(device).eval()
        self._scheduler = pipeline.scheduler
        self.device = device
        self._fold = int(getattr(pipeline.config, "space_to_depth", 1) or 1)
        self._prediction, self.alpha_bar = _process(pipeline.scheduler)
        self.num_queries = 0
        config = self._unet.config
        size = _side(config.sample_size)
        channels = config.in_channels // self._fold**2
        self.shape = (channels, size * self._fold, size * self._fold)
        classes = config.num_class_embeds
        self.num_classes = None if classes is None else int(classes)
        is_own = isinstance(pipeline, PhoenixPipeline)
        self.null_label = self.num_classes - 1 if self.num_classes and is_own else None

    def __call__(self, z: NDArray[np.float32], t: NDArray[np.int64], /) -> NDArray[np.float32]:
        """The predicted noise, without a class."""
        return self.noise(z, t, labels=None)

    def asking(self, label: int) -> AskedForClass:
        """The same network, asked for the class ``label``."""
        return AskedForClass(model=self, label=label)

    def noise(
        self, z: NDArray[np.float32], t: NDArray[np.int64], *, labels: Labels | None
    ) -> NDArray[np.float32]:
        """The predicted noise, batch by batch on every core; the same on any number of them.

        labels      (N,) classes; None, and -1 for one image, ask without a class
        Raises:     ValueError where that is asked of a model which has no such question.
        """
        out = np.empty_like(z)
        asked = self._asked(labels, num=len(z))

        def answer(rows: slice) -> None:
            part = torch.from_numpy(z[rows]).to(self.device)
            level = torch.from_numpy(self.alpha_bar[t[rows]]).to(self.device, torch.float32)
            step = torch.from_numpy(t[rows]).to(self.device)
            extra = {}
            if asked is not None:
                extra["class_labels"] = torch.from_numpy(asked[rows]).to(self.device)
            out[rows] = self._noise(part, step, level.view(-1, 1, 1, 1), extra).cpu().numpy()

        largest = LARGEST_PIECE if self.device.type == "cpu" else _BATCH
        pieces = [
            piece
            for start in range(0, len(z), _BATCH)
            for piece in even_slices(min(_BATCH, len(z) - start), largest=largest, start=start)
        ]
        with workers(num_cores()), torch.inference_mode():
            map_batches(answer, pieces, device=self.device)
        self.num_queries += len(z)
        return out

    def _asked(self, labels: Labels | None, *, num: int) -> Labels | None:
        if self.num_classes is None:
            return None
        given = np.full(num, -1, np.int64) if labels is None else labels
        if self.null_label is None and (given < 0).any():
            raise ValueError("expected labels: the model has no null class")
        return np.where(given < 0, self.null_label or 0, given)

    def _noise(
        self, z: torch.Tensor, t: torch.Tensor, a: torch.Tensor, extra: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        match self._prediction:
            case "epsilon":
                return self._network(z, t, extra)
            case "v_prediction":
                return a.sqrt() * self._network(z, t, extra) + (1 - a).sqrt() * z
            case "sample":
                return (z - a.sqrt() * self._network(z, t, extra)) / (1 - a).sqrt()
        sigma, data = ((1 - a) / a).sqrt(), float(self._scheduler.config.sigma_data)
        x = z / a.sqrt()
        total = (sigma**2 + data**2).sqrt()
        raw = self._network(x / total, (sigma.log() / 4).flatten(), extra)
        # Of a network that predicts v, diffusers' EDM schedulers read the answer with a minus.
        sign = -1 if self._prediction == "edm v_prediction" else 1
        clean = (data / total) ** 2 * x + sign * sigma * data / total * raw
        return (x - clean) / sigma

    def _network(
        self, z: torch.Tensor, t: torch.Tensor, extra: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        channels = z.shape[1]
        if self._fold > 1:
            z = torch.nn.functional.pixel_unshuffle(z, self._fold)
            channels = z.shape[1]
        answer: torch.Tensor = self._unet(z, t, **extra).sample
        answer = answer[:, :channels]  # a network that also learned its variance answers twice
        return torch.nn.functional.pixel_shuffle(answer, self._fold) if self._fold > 1 else answer


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedForClass:
    """A denoiser that asks for one class."""

    model: PipelineDenoiser
    label: int

    @property
    def alpha_bar(self) -> NDArray[np.float64]:
        """The model's schedule."""
        return self.model.alpha_bar

    def __call__(self, z: NDArray[np.float32], t: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.model.noise(z, t, labels=np.full(len(z), self.label, np.int64))


def _side(size: Any) -> int:
    """The images' side, from one number or two equal ones."""
    sides = {size} if isinstance(size, int) else set(size or ())
    if len(sides) != 1:
        raise CheckpointError(f"the model's sample_size is {size}: images must be square")
    return int(sides.pop())


def _process(scheduler: Any) -> tuple[str, NDArray[np.float64]]:
    """The network's prediction type and its schedule."""
    prediction = str(getattr(scheduler.config, "prediction_type", "epsilon"))
    name = type(scheduler).__name__
    unknown = CheckpointError(
        f"the scheduler {name} with prediction_type {prediction!r} is not known: save the "
        "pipeline with the DDPMScheduler or DDIMScheduler of its training"
    )
    if name in _EDM_SCHEDULERS and prediction in ("epsilon", "v_prediction"):
        steps = np.arange(1, _EDM_TIMESTEPS + 1) / _EDM_TIMESTEPS
        cosine = np.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
        alpha_bar = cosine / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        kind = "edm" if prediction == "epsilon" else "edm v_prediction"
        return kind, np.asarray(alpha_bar[alpha_bar > _SMALLEST], dtype=np.float64)
    betas = getattr(scheduler, "betas", None)
    if betas is None or prediction not in ("epsilon", "v_prediction", "sample"):
        raise unknown
    if hasattr(scheduler.config, "sigma_data"):  # other parametrisations: consistency, SCM, cosine
        raise unknown
    values = np.cumprod(1 - betas.double().cpu().numpy())
    values = values[values > _SMALLEST]
    if len(values) < 2 or not (np.diff(values) < 0).all():
        raise unknown
    return prediction, values
