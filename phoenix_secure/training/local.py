"""One site, one round: start from the global model, take local steps, answer with the change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phoenix_secure.config import RunConfig, TrainingConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.batch_loss import Batch, batch_loss
from phoenix_secure.training.data_parallel import DataParallel, opened
from phoenix_secure.training.network import network_for
from phoenix_secure.training.parameters import load_vector, spread
from phoenix_secure.training.schedule import batches, num_local_steps
from phoenix_secure.training.steps import finite_change, local_steps

__all__ = ["LocalTrainer", "LocalUpdate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalUpdate:
    """The change of the parameters, and the facts that go with it.

    failed     the training came to nothing: the change is zero
    sat_out    the site keeps out of the round, by its own evaluation of what it trained
    """

    delta: np.ndarray  # (d,) float32: local minus global
    num_images: int
    num_steps: int
    loss: float  # mean over the round's steps
    seconds: float
    failed: bool = False
    sat_out: bool = False


class LocalTrainer:
    """Trains any site's images on one device, with one network per thread.

    The network and its optimizer hold nothing between rounds: an update depends on the global
    vector, the images, the round and the seed alone.
    """

    def __init__(self, config: RunConfig, *, num_classes: int, device: torch.device) -> None:
        if config.privacy.is_dp_sgd:
            raise ConfigError(
                f"privacy.unit: this trainer adds no noise; {config.privacy.unit} needs another"
            )
        self._config = config
        self._num_classes = num_classes
        self._device = device
        self._objective = Objective(config.diffusion, device=device)
        self._local = threading.local()
        self._group: DataParallel | None = None

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
        """Train for one round (1-based ``round_number``).

        ``drift`` (d,) is added to the parameters after every step, times its learning rate.

        Raises:     Cancelled between two steps; TrainingError when the loss is not finite, or
                    there is no image.
        """
        if len(site.images) == 0:
            raise TrainingError("this site has no image to train on: add some, or leave it out")
        started = time.perf_counter()
        config = self._config.training
        network = self._network(site)
        # Put back after the last step: one that is cut short leaves its gradients.
        self._local.network = None
        load_vector(network, global_vector)
        network.train()
        anchor = [p.detach().clone() for p in network.parameters()] if config.proximal_mu else []
        optimizer = _optimizer(network, config)
        flat = None if drift is None else torch.from_numpy(drift).to(self._device)
        drifts = [] if flat is None else spread(flat, network)
        scaler = torch.amp.GradScaler(self._device.type, enabled=config.autocast == "float16")
        num_steps = num_local_steps(config, num_images=len(site.images))
        generator = seeds.child("noise").torch()
        losses: list[torch.Tensor] = []
        indices = batches(
            len(site.images),
            batch_size=config.batch_size,
            num_steps=num_steps,
            rng=seeds.child("batches").numpy(),
        )
        steps = local_steps(
            self._config,
            optimizer,
            round_number=round_number,
            num_steps=num_steps,
            cancelled=cancelled,
        )
        for rate, index in zip(steps, indices, strict=True):
            batch = self._batch(site, index, generator=generator)
            loss = self._backward(network, batch, scaler=scaler)
            scaler.unscale_(optimizer)
            _shape_gradients(network, config, anchor)
            scaler.step(optimizer)
            scaler.update()
            _move(network, drifts, by=rate)
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss)
            progress(len(index))
        self._local.network = network
        advice = "lower training.learning_rate or set training.grad_clip"
        delta = finite_change(network, global_vector, round_number=round_number, advice=advice)
        mean_loss = float(torch.stack(losses).double().mean())
        if not np.isfinite(mean_loss):
            raise TrainingError(
                f"the loss became NaN or infinite in round {round_number}: {advice}"
            )
        return LocalUpdate(
            delta=delta,
            num_images=len(site.images),
            num_steps=num_steps,
            loss=mean_loss,
            seconds=time.perf_counter() - started,
        )

    def _backward(
        self,
        network: torch.nn.Module,
        batch: Batch,
        *,
        scaler: torch.amp.GradScaler | None = None,
    ) -> torch.Tensor:
        """Add the gradient of the mean loss; that mean, detached."""
        if self._group is not None:
            return self._group.backward(network, batch)
        loss = batch_loss(network, batch, self._config.training).mean()
        scaled = loss if scaler is None else scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _batch(self, site: SiteImages, index: np.ndarray, *, generator: torch.Generator) -> Batch:
        config = self._config.training
        x0 = torch.from_numpy(site.images[index]).to(self._device).float() / 127.5 - 1
        if config.horizontal_flip:
            flip = torch.rand(len(x0), generator=generator).to(self._device) < 0.5
            x0 = torch.where(flip.view(-1, 1, 1, 1), x0.flip(-1), x0)
        if self._config.model.space_to_depth > 1:
            x0 = torch.nn.functional.pixel_unshuffle(x0, self._config.model.space_to_depth)
        if config.channels_last:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        labels = self._labels(site, index, generator=generator)
        return Batch(pair=self._objective.pair(x0, generator=generator), labels=labels)

    def _labels(
        self, site: SiteImages, index: np.ndarray, *, generator: torch.Generator
    ) -> torch.Tensor | None:
        """Labels of a batch, some replaced by "no label" for classifier-free guidance."""
        if not self._config.model.class_conditional or site.labels is None:
            return None
        labels = torch.from_numpy(site.labels[index])
        dropped = torch.rand(len(labels), generator=generator) < self._config.training.label_dropout
        return labels.masked_fill(dropped, self._num_classes).to(self._device)

    def _network(self, site: SiteImages) -> torch.nn.Module:
        """This thread's network (its weights are overwritten before every use)."""
        self._group = opened(
            self._group, self._config, site, num_classes=self._num_classes, device=self._device
        )
        if getattr(self._local, "network", None) is None:
            network: Any = network_for(
                self._config, site.form, num_classes=self._num_classes, device=self._device
            )
            if self._config.training.compile:
                network = torch.compile(network)
            self._local.network = network
        network_of_thread: torch.nn.Module = self._local.network
        return network_of_thread


def _optimizer(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def _move(network: torch.nn.Module, drifts: list[torch.Tensor], *, by: float) -> None:
    with torch.no_grad():
        for parameter, each in zip(network.parameters(), drifts, strict=False):
            parameter.add_(each, alpha=by)


def _shape_gradients(
    network: torch.nn.Module, config: TrainingConfig, anchor: list[torch.Tensor]
) -> None:
    """Clip the gradient of the loss, then add FedProx's pull ``mu (w - w_global)``.

    The pull comes after the clipping: it is exact, and must not be drowned by a large gradient.
    Source: Li et al. (2020), FedProx, equation 2.
    """
    if config.grad_clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    with torch.no_grad():
        for parameter, start in zip(network.parameters(), anchor, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=config.proximal_mu)
