"""A diffusers pipeline as the callable ``eps(z, t)`` that attacks know.

Whatever the network was trained to predict (epsilon, v, the image, or EDM's target), the attacks
see the noise that this prediction implies, at a 0-based timestep of one schedule ``alpha_bar``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phoenix_secure.audit.process import process_of
from phoenix_secure.audit.records import Labels
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.diffusion.split import LARGEST_PIECE
from phoenix_secure.workers import even_slices, map_batches, workers

__all__ = ["PipelineDenoiser", "implied_noise"]

_BATCH = 128


class PipelineDenoiser:
    """The noise in ``z`` at timestep ``t``, as the pipeline's network sees it.

    Shape:      z (N, C, H, W) float32 in the pixels of the *image* (folded pixels are folded and
                unfolded here), t (N,) int64; result like z.
    ``alpha_bar`` is (T,) float64, strictly decreasing (``process.Process``). A class-conditional
    network is asked without a class where it has a null class (its last, in pipelines of this
    program), or for the class of each image. Half-precision weights are made float32.
    Source:     Karras et al. (2022), table 1 (EDM).
    Raises:     CheckpointError for a pipeline whose process cannot be told.
    """

    def __init__(self, pipeline: Any, *, device: torch.device) -> None:
        self._unet = pipeline.unet.to(device).eval()
        if any(weights.dtype != torch.float32 for weights in self._unet.parameters()):
            self._unet.float()
        self.device = device
        self._fold = int(getattr(pipeline.config, "space_to_depth", 1) or 1)
        self.process = process_of(pipeline.scheduler)
        self.alpha_bar = self.process.alpha_bar
        self.num_queries = 0
        config = self._unet.config
        size = config.sample_size
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

    def noise_tensor(self, z: torch.Tensor, t: NDArray[np.int64], *, label: int) -> torch.Tensor:
        """:meth:`noise` of one batch as a tensor that keeps its graph, for gradients.

        label       of all images; -1 asks without a class
        """
        extra = {}
        asked = self._asked(np.full(len(z), label, np.int64), num=len(z))
        if asked is not None:
            extra["class_labels"] = torch.from_numpy(asked).to(self.device)
        level = torch.from_numpy(self.alpha_bar[t]).to(self.device, torch.float32)
        return self._noise(z, torch.from_numpy(t).to(self.device), level.view(-1, 1, 1, 1), extra)

    @property
    def network(self) -> torch.nn.Module:
        """The network that answers."""
        network: torch.nn.Module = self._unet
        return network

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
        if self.process.sigma_data is not None:
            return self._noise_of_edm(z, a, extra, data=self.process.sigma_data)
        return implied_noise(self._network(z, t, extra), z, a, prediction=self.process.prediction)

    def _noise_of_edm(
        self, z: torch.Tensor, a: torch.Tensor, extra: dict[str, torch.Tensor], *, data: float
    ) -> torch.Tensor:
        sigma = ((1 - a) / a).sqrt()
        x = z / a.sqrt()
        total = (sigma**2 + data**2).sqrt()
        raw = self._network(x / total, (sigma.log() / 4).flatten(), extra)
        # Of a network that predicts v, diffusers' EDM schedulers read the answer with a minus.
        sign = -1 if self.process.prediction == "v_prediction" else 1
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


def implied_noise(
    answer: torch.Tensor, z: torch.Tensor, a: torch.Tensor, *, prediction: str
) -> torch.Tensor:
    """The noise in ``z`` at level ``a`` when a network's ``answer`` is taken for ``prediction``.

    Source:     Salimans and Ho (2022), section 4 (v = sqrt(a) eps - sqrt(1 - a) x).
    """
    match prediction:
        case "epsilon":
            return answer
        case "v_prediction":
            return a.sqrt() * answer + (1 - a).sqrt() * z
        case "sample":
            return (z - a.sqrt() * answer) / (1 - a).sqrt()
    raise ValueError(f"expected epsilon, v_prediction or sample, got {prediction!r}")
