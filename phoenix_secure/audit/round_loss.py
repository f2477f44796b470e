"""The training loss of single images at a model that a run sent out, with its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from attacks.records import Images
from phoenix_secure.config import RunConfig
from phoenix_secure.data.partition import DataPartition
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import load_vector

__all__ = ["RoundLoss"]


class RoundLoss:
    """The loss that a site lowers in the round after ``state``, of one image at a time.

    Timesteps and noises are the same for every image: ``num_draws`` of them, from ``seeds``. A
    class-conditional network is asked for the image's class, as in training; without one (-1), for
    its null class.

    Shape:      images (C, H, W) in [-1, 1]; gradients (D,) in the order of the parameters.
    """

    def __init__(
        self,
        state: ServerState,
        config: RunConfig,
        partition: DataPartition,
        *,
        device: torch.device,
        seeds: SeedTree,
        num_draws: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        image_set = partition.image_set
        self._network = build_unet(
            config.model,
            image_size=image_set.image_size,
            channels=image_set.channels,
            num_classes=image_set.num_classes,
            seeds=SeedTree(0),
        ).to(device)
        load_vector(self._network, state.parameters)
        self._network.eval()
        if dtype is torch.float64:
            self._network.double()
        self._parameters = tuple(self._network.parameters())
        self._objective = Objective(config.diffusion, device=device)
        self._fold = config.model.space_to_depth
        self._null = image_set.num_classes if config.model.class_conditional else None
        self._seeds, self._num_draws = seeds, num_draws
        self._device, self._dtype = device, dtype

    def gradients(self, label: int) -> Callable[[Images], NDArray[np.floating]]:
        """(N, C, H, W) -> (N, D), each image asked for the class ``label``."""

        def of_all(x: Images) -> NDArray[np.floating]:
            return np.stack([self.gradient(image, label=label) for image in x])

        return of_all

    def gradient(self, image: NDArray[np.floating], *, label: int) -> NDArray[np.floating]:
        """The gradient (D,) at one image."""
        flat = self._gradient(self._tensor(image), label=label, create_graph=False)
        return np.asarray(flat.detach().cpu().numpy())

    def pulled_back(
        self, image: NDArray[np.floating], direction: NDArray[np.floating], *, label: int
    ) -> NDArray[np.floating]:
        """d(gradient(image) . direction) / d image, (C, H, W)."""
        x = self._tensor(image).requires_grad_(True)
        along = torch.from_numpy(np.asarray(direction)).to(self._device, self._dtype)
        # Fast attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            inner = self._gradient(x, label=label, create_graph=True) @ along
            (found,) = torch.autograd.grad(inner, x)
        return np.asarray(found.cpu().numpy())

    def _tensor(self, image: NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image)).to(self._device, self._dtype)

    def _gradient(self, image: torch.Tensor, *, label: int, create_graph: bool) -> torch.Tensor:
        x0 = image[None].expand(self._num_draws, *image.shape)
        if self._fold > 1:
            x0 = torch.nn.functional.pixel_unshuffle(x0, self._fold)
        labels = None
        if self._null is not None:
            asked = self._null if label < 0 else label
            labels = torch.full((self._num_draws,), asked, device=self._device)
        loss = self._objective.loss(self._answer, x0, labels, generator=self._seeds.torch())
        parts = torch.autograd.grad(
            loss.mean(), self._parameters, create_graph=create_graph, allow_unused=True
        )
        return torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for p, g in zip(self._parameters, parts, strict=True)
            ]
        )

    def _answer(
        self, images: torch.Tensor, times: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        # Noise is drawn in float32, and times of EDM are floats.
        at = times.to(self._dtype) if times.is_floating_point() else times
        found: torch.Tensor = self._network(images.to(self._dtype), at, class_labels=labels).sample
        return found
