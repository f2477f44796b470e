"""A process beside the leading one, on a device of its own: differentiates what it is sent.

It holds no images, no secrets and no random numbers of its own. It is started by
``training.data_parallel`` and ends with it.

    python -m phoenix_secure.training.data_parallel_worker < settings.json
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.objective import TrainingPair
from phoenix_secure.errors import TrainingError
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.per_image import Gradients, make_gradients
from phoenix_secure.training.batch_loss import Batch, batch_loss
from phoenix_secure.training.network import network_for
from phoenix_secure.training.parameters import flat_gradient, flat_sum, spread
from phoenix_secure.training.tensor_link import LEADER, READY, Command, Link, leave

__all__ = ["Worker", "main"]


class Worker:
    """Answers the leader's commands until it is told to stop."""

    def __init__(self, link: Link, network: torch.nn.Module, config: RunConfig) -> None:
        self._link = link
        self._network = network.train()
        self._config = config
        self._gradients = _image_gradients(network, config)
        self._forget()

    def run(self) -> None:
        while (command := self._link.next_command()) is not Command.STOP:
            self._answer(command)

    def _answer(self, command: Command) -> None:
        match command:
            case Command.WEIGHTS:
                self._take_weights()
            case Command.BATCH:
                self._add_batch()
            case Command.VERIFY:
                self._by_image.verify(_rows(self._link.receive(5)))
                self._link.send([torch.tensor(self._by_image.sizes)], to=LEADER)
            case Command.SIZES:
                (sizes,) = self._link.receive(1)
                self._by_image.sizes = tuple(_present(sizes).tolist())
            case Command.CLIP:
                *rows, clip_norm = self._link.receive(6)
                clip = float(_present(clip_norm))
                self._losses.append(self._by_image.accumulate(_rows(rows), clip_norm=clip))
            case Command.ROUND:
                self._add_rounded()
            case Command.SUM:
                self._give_sum()
            case Command.ROUNDED_SUM:
                self._link.sum_at_leader(torch.from_numpy(self._total).to(self._link.device))
                self._forget()

    @property
    def _by_image(self) -> Gradients:
        if self._gradients is None:
            raise TrainingError("gradients of single images are for privacy.unit record alone")
        return self._gradients

    def _take_weights(self) -> None:
        """What was summed before belongs to a step that was given up."""
        self._forget()
        parameters = list(self._network.parameters())
        flat = torch.empty(sum(p.numel() for p in parameters), device=self._link.device)
        self._link.broadcast(flat)
        with torch.no_grad():
            for parameter, part in zip(parameters, spread(flat, self._network), strict=True):
                parameter.copy_(part)

    def _forget(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._total = np.zeros(sum(p.numel() for p in self._network.parameters()), np.int64)
        for parameter in self._network.parameters():
            parameter.grad = parameter.summed_grad = None  # type: ignore[attr-defined]

    def _add_batch(self) -> None:
        size, inputs, times, target, weight, labels = self._link.receive(6)
        layout = self._config.training.channels_last
        form = torch.channels_last if layout else torch.contiguous_format
        pair = TrainingPair(
            inputs=_present(inputs).contiguous(memory_format=form),
            times=_present(times),
            target=_present(target),
            weight=_present(weight),
        )
        batch = Batch(pair=pair, labels=labels)
        loss = batch_loss(self._network, batch, self._config.training).sum() / _present(size)
        loss.backward()  # type: ignore[no-untyped-call]
        self._losses.append(loss.detach().view(1))

    def _add_rounded(self) -> None:
        *rows, clip_norm, grid = self._link.receive(7)
        steps, limit, count_step = _present(grid).tolist()
        self._by_image.add_rounded(
            _rows(rows),
            clip_norm=float(_present(clip_norm)),
            grid=IntegerGrid(steps=steps, limit=limit, count_step=count_step),
            total=self._total,
        )

    def _give_sum(self) -> None:
        find = flat_gradient if self._gradients is None else flat_sum
        self._link.sum_at_leader(find(self._network))
        found = [each.to(self._link.device) for each in self._losses]
        self._link.send([torch.cat(found) if found else None], to=LEADER)
        self._forget()


def _image_gradients(network: torch.nn.Module, config: RunConfig) -> Gradients | None:
    privacy = config.privacy
    if not privacy.is_dp_sgd:
        return None
    return make_gradients(privacy.gradients, network, physical_batch=privacy.physical_batch)


def _rows(tensors: Sequence[torch.Tensor | None]) -> ImageRows:
    inputs, times, target, weight, labels = tensors
    return ImageRows(
        inputs=_present(inputs),
        times=_present(times),
        target=_present(target),
        weight=_present(weight),
        labels=labels,
    )


def _present(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise TrainingError("a tensor of the step did not come")
    return tensor


def _end_with_leader() -> None:
    """Standard input is open for as long as the leader lives."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """One worker, by the settings in the first line of standard input."""
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_leader, daemon=True).start()
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    config = RunConfig.model_validate(settings["config"])
    network = network_for(
        config, tuple(settings["shape"]), num_classes=settings["num_classes"], device=device
    )
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    link = Link(
        device,
        meeting=Path(settings["meeting"]),
        rank=settings["rank"],
        world_size=config.training.devices,
    )
    Worker(link, network, config).run()
    leave()


if __name__ == "__main__":
    main()
