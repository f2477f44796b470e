"""Gradients of single images on several devices, chunk by chunk in turn."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.per_image import Gradients, ImageRows
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.training.data_parallel import DataParallel
from phoenix_secure.training.parameters import flat_sum, spread
from phoenix_secure.training.tensor_link import LEADER, Command

__all__ = ["SharedGradients"]


class SharedGradients(Gradients):
    """``own`` gradients of this process, and those of the other processes of ``group``.

    Guarantee:  as ``Gradients``: an image's clipped gradient has the same bits on whichever device
                it comes to (where ``verify`` saw it), since one image more moves those behind it to
                other devices.
    """

    def __init__(self, own: Gradients, network: nn.Module, group: DataParallel) -> None:
        self._own = own
        self._network = network
        self._group = group
        self._turn = LEADER

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._own.sizes

    @sizes.setter
    def sizes(self, sizes: tuple[int, ...]) -> None:
        self._own.sizes = sizes
        with self._group.whole():
            for rank in self._group.workers:
                self._group.link.command(Command.SIZES, to=rank)
                self._group.link.send([torch.tensor(sizes)], to=rank)

    def verify(self, rows: ImageRows) -> None:
        """Keep to sizes in which an image has the same bits in any company on every device.

        Raises:     ConfigError where two devices give one image other bits: they are of two kinds,
                    or run other numbers of threads.
        """
        self._own.verify(rows)
        sizes = set(self._own.sizes)
        self.begin()
        with self._group.whole():
            for rank in self._group.workers:
                self._send(Command.VERIFY, rows, to=rank)
            for rank in self._group.workers:
                (found,) = self._group.link.receive(1, source=rank)
                sizes &= set() if found is None else set(found.tolist())
        self.sizes = tuple(sorted(sizes)) or (1,)
        everyone = self._group.link.world_size
        for _ in range(everyone):
            self.accumulate(rows, clip_norm=1.0)
        ours = flat_sum(self._network)
        self.complete()
        if not torch.equal(flat_sum(self._network), ours * everyone):
            raise ConfigError(
                "the devices of training.devices give the same image gradients that differ in a "
                "bit, which would tell who else is in the batch: use devices of one kind"
            )
        self._forget()

    def begin(self) -> None:
        """Every process goes on from this network's weights, with nothing summed."""
        self._turn = LEADER
        self._forget()
        self._group.send_weights(self._network)

    def accumulate(
        self, rows: ImageRows, *, clip_norm: float, persons: PersonMeans | None = None
    ) -> torch.Tensor:
        """Whoever's turn it is adds them; the losses of others come with ``complete``."""
        rank = self._next()
        if rank == LEADER:
            return self._own.accumulate(rows, clip_norm=clip_norm, persons=persons)
        with self._group.whole():
            self._send(Command.CLIP, rows, to=rank, clip_norm=clip_norm)
        return torch.zeros(0)

    def add_rounded(
        self,
        rows: ImageRows,
        *,
        clip_norm: float,
        grid: IntegerGrid,
        total: np.ndarray,
        persons: PersonMeans | None = None,
    ) -> None:
        rank = self._next()
        if rank == LEADER:
            self._own.add_rounded(
                rows, clip_norm=clip_norm, grid=grid, total=total, persons=persons
            )
            return
        with self._group.whole():
            self._send(Command.ROUND, rows, to=rank, clip_norm=clip_norm)
            numbers = torch.tensor([grid.steps, grid.limit, grid.count_step])
            self._group.link.send([numbers], to=rank)

    def complete(self) -> torch.Tensor:
        total = flat_sum(self._network)
        with self._group.whole():
            losses = self._group.sum(total)
        for parameter, part in zip(
            self._network.parameters(), spread(total, self._network), strict=True
        ):
            parameter.summed_grad = part  # type: ignore[attr-defined]
        return losses

    def complete_rounded(self, total: np.ndarray) -> None:
        with self._group.whole():
            self._group.tell(Command.ROUNDED_SUM)
            summed = torch.from_numpy(total).to(self._group.link.device)
            self._group.link.sum_at_leader(summed)
        total[:] = summed.cpu().numpy()

    def _next(self) -> int:
        """The others first: they work while we do."""
        self._turn = (self._turn + 1) % self._group.link.world_size
        return self._turn

    def _send(
        self, command: Command, rows: ImageRows, *, to: int, clip_norm: float | None = None
    ) -> None:
        link = self._group.link
        link.command(command, to=to)
        tensors = [rows.inputs, rows.times, rows.target, rows.weight, rows.labels]
        if clip_norm is not None:
            tensors.append(torch.tensor([clip_norm], dtype=torch.float64))
        link.send(tensors, to=to)

    def _forget(self) -> None:
        for parameter in self._network.parameters():
            parameter.summed_grad = None  # type: ignore[attr-defined]
