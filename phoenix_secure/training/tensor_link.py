"""Tensors and commands between the processes of one site that share its steps.

Only numbers go over it: nothing that is received is ever run or unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from pathlib import Path

import torch
import torch.distributed as dist

__all__ = ["LEADER", "READY", "Command", "Link", "leave"]

LEADER = 0
READY = "ready"  # what a worker says before it joins
_TYPES = (torch.float32, torch.float64, torch.int64)
_MOST_DIMENSIONS = 6
_NOTHING = -1
# A worker waits for its next command as long as a federation pauses between two rounds.
_PATIENCE = timedelta(days=365)


class Command(IntEnum):
    """What the leader asks of a worker; tensors that belong to it follow."""

    WEIGHTS = 1  # take part in a broadcast of all parameters
    BATCH = 2  # add the gradient of a share of a batch
    VERIFY = 3  # answer with the sizes of chunks in which an image has equal bits
    SIZES = 4  # fill chunks up to these sizes
    CLIP = 5  # add the clipped gradients of a chunk
    ROUND = 6  # add the clipped gradients of a chunk in whole numbers
    SUM = 7  # take part in the sum of all gradients, and forget them
    ROUNDED_SUM = 8
    STOP = 9


class Link:
    """One process's end of a group of ``world_size``, of which rank 0 leads.

    The group's processes find one another by the file ``meeting``, which nobody else may open.

    Raises:     RuntimeError on use when another process of the group has gone.
    """

    def __init__(self, device: torch.device, *, meeting: Path, rank: int, world_size: int) -> None:
        self.device = device
        self.world_size = world_size
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=meeting.as_uri(),
            rank=rank,
            world_size=world_size,
            timeout=_PATIENCE,
        )

    def command(self, command: Command, *, to: int) -> None:
        """Tell ``to`` what comes next."""
        dist.send(torch.tensor([command], device=self.device), dst=to)

    def next_command(self) -> Command:
        """Wait for the leader."""
        found = torch.zeros(1, dtype=torch.int64, device=self.device)
        dist.recv(found, src=LEADER)
        return Command(int(found.item()))

    def send(self, tensors: Sequence[torch.Tensor | None], *, to: int) -> None:
        """Send tensors of float32, float64 or int64, of at most six dimensions."""
        for tensor in tensors:
            header = torch.full((2 + _MOST_DIMENSIONS,), _NOTHING)
            if tensor is not None:
                header[0], header[1] = _TYPES.index(tensor.dtype), tensor.dim()
                header[2 : 2 + tensor.dim()] = torch.tensor(tensor.shape)
            dist.send(header.to(self.device), dst=to)
            if tensor is not None and tensor.numel():
                dist.send(tensor.to(self.device).contiguous(), dst=to)

    def receive(self, num: int, *, source: int = LEADER) -> list[torch.Tensor | None]:
        """The ``num`` tensors that ``source`` sends."""
        return [self._receive(source) for _ in range(num)]

    def _receive(self, source: int) -> torch.Tensor | None:
        header = torch.zeros(2 + _MOST_DIMENSIONS, dtype=torch.int64, device=self.device)
        dist.recv(header, src=source)
        kind, dimensions, *shape = header.tolist()
        if kind == _NOTHING:
            return None
        found = torch.empty(shape[:dimensions], dtype=_TYPES[kind], device=self.device)
        if found.numel():
            dist.recv(found, src=source)
        return found

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite every worker's ``tensor`` with the leader's."""
        dist.broadcast(tensor, src=LEADER)

    def sum_at_leader(self, tensor: torch.Tensor) -> None:
        """Overwrite the leader's ``tensor`` with the sum of all; the workers' are undefined."""
        dist.reduce(tensor, dst=LEADER)


def leave() -> None:
    """Leave the group that this process is in, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()
