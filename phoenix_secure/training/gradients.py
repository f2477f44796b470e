"""One site, one step: the gradient of one batch, for an optimizer that runs on the sum of all."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import TrainingError
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer, LocalUpdate
from phoenix_secure.training.parameters import load_vector
from phoenix_secure.training.schedule import batches
from phoenix_secure.training.steps import Cancelled

__all__ = ["GradientTrainer", "plain_trainer"]


def plain_trainer(config: RunConfig, *, num_classes: int, device: torch.device) -> LocalTrainer:
    """The trainer of ``config`` where no noise is added: one gradient a round, or local steps."""
    kind = GradientTrainer if config.federation.exchange == "gradients" else LocalTrainer
    return kind(config, num_classes=num_classes, device=device)


class GradientTrainer(LocalTrainer):
    """Answers a round with minus the mean gradient of one batch, and with the site's images as its
    weight (``federation.exchange: gradients``).

    The mean over sites is then minus an unbiased gradient of the loss over all images of all
    sites, however they are partitioned. Where batches are in proportion to sites (equal sites, or
    whole sites as batches), it is the gradient of the union of the batches.

    Source:     McMahan et al. (2017), section 2, FedSGD, arXiv:1602.05629.
    """

    def train(
        self,
        global_vector: np.ndarray,
        site: SiteImages,
        *,
        round_number: int,
        seeds: SeedTree,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], object] = lambda _: None,
        drift: np.ndarray | None = None,
    ) -> LocalUpdate:
        """The gradient at ``global_vector`` of ``training.batch_size`` images drawn without
        replacement, or of all where there are fewer.

        Raises:     Cancelled before the batch; TrainingError when loss or gradient is not finite,
                    or there is no image.
        """
        if drift is not None:
            raise ValueError("expected no drift: a gradient is of the global model")
        if len(site.images) == 0:
            raise TrainingError("this site has no image to train on: add some, or leave it out")
        if cancelled():
            raise Cancelled
        started = time.perf_counter()
        network = self._network(site)
        # Put back when it is done: one that is cut short leaves its gradients.
        self._local.network = None
        load_vector(network, global_vector)
        network.train()
        (index,) = batches(
            len(site.images),
            batch_size=min(self._config.training.batch_size, len(site.images)),
            num_steps=1,
            rng=seeds.child("batches").numpy(),
        )
        batch = self._batch(site, index, generator=seeds.child("noise").torch())
        loss = self._backward(network, batch)
        delta = _taken_gradient(network)
        self._local.network = network
        if not (np.isfinite(delta).all() and np.isfinite(loss.item())):
            raise TrainingError(
                f"the gradient became NaN or infinite in round {round_number}: "
                "lower training.learning_rate or federation.server_learning_rate"
            )
        progress(len(index))
        return LocalUpdate(
            delta=np.negative(delta, out=delta),
            num_images=len(site.images),
            num_steps=1,
            loss=loss.item(),
            seconds=time.perf_counter() - started,
        )


def _taken_gradient(network: torch.nn.Module) -> np.ndarray:
    """The gradient (d,) float32 in the order of ``training.parameters``; it is none afterwards."""
    parts = []
    for parameter in network.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parts.append(gradient.detach().reshape(-1).float().cpu())
        parameter.grad = None
    return torch.cat(parts).numpy()
