"""One site's steps on several devices: each takes a share of the images, one takes the step.

The leading process draws everything (which images, their noise, the privacy noise) and holds the
optimizer. The others are sent regression problems and weights, and add their gradients to one sum:
a step is what it would be on one device, but for the rounding of that sum.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.objective import TrainingPair
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.training.batch_loss import Batch, batch_loss
from phoenix_secure.training.parameters import flat_gradient, spread
from phoenix_secure.training.tensor_link import LEADER, READY, Command, Link, leave

__all__ = ["DataParallel", "opened", "share_devices"]

# A process has one group at a time.
_CURRENT: weakref.WeakSet[DataParallel] = weakref.WeakSet()
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


class DataParallel:
    """The leader's end of a group of ``training.devices`` processes on this machine.

    shape      channels, height and width of an image, before ``model.space_to_depth``
    device     of this process; the others take the CUDA devices after it, or the CPU, too

    Notes:      Processes talk over the loopback interface, unencrypted and, as gloo and NCCL are,
                unauthenticated: noised images, weights and gradients of single steps are on it.
                For machines whose users are all trusted with the images.
    Raises:     ConfigError where there are fewer devices. TrainingError on use once a process has
                gone; the group is closed then.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        num_classes: int,
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        devices = share_devices(device, config.training.devices)
        for other in list(_CURRENT):
            other.close()
        self._training = config.training
        folder = Path(tempfile.mkdtemp(prefix="phoenix-secure-devices-"))  # mode 0700
        settings = {
            "config": config.model_dump(mode="json"),
            "num_classes": num_classes,
            "shape": shape,
            "threads": torch.get_num_threads(),
            "meeting": str(folder / "meeting"),
        }
        self._log = folder / "workers.log"
        self._processes = [
            _start(settings | {"device": str(each), "rank": rank}, log=self._log)
            for rank, each in enumerate(devices[1:], start=1)
        ]
        self._end = weakref.finalize(self, _end, self._processes, folder)
        if not all(map(_is_ready, self._processes)):
            raise self._gone()
        with _on_loopback(), self._whole():
            self.link = Link(
                device, meeting=folder / "meeting", rank=LEADER, world_size=len(devices)
            )
        _CURRENT.add(self)

    @property
    def is_open(self) -> bool:
        return self._end.alive

    @property
    def workers(self) -> range:
        """Ranks of the other processes."""
        return range(1, len(self._processes) + 1)

    def close(self) -> None:
        """End the other processes."""
        self._end()
        _CURRENT.discard(self)

    def tell(self, command: Command) -> None:
        """The same command for every worker."""
        for rank in self.workers:
            self.link.command(command, to=rank)

    def send_weights(self, network: torch.nn.Module) -> None:
        """Every worker's weights become those of ``network``; its sums of before are forgotten."""
        with self.whole(), torch.no_grad():
            self.tell(Command.WEIGHTS)
            self.link.broadcast(torch.cat([p.reshape(-1) for p in network.parameters()]))

    def backward(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The gradient of the mean loss of ``batch`` in ``parameter.grad``; that mean."""
        self.send_weights(network)
        with self.whole():
            shares, size = self._shares(len(batch)), torch.tensor([len(batch)])
            for rank in self.workers:
                if shares[rank].stop > shares[rank].start:
                    self.link.command(Command.BATCH, to=rank)
                    self.link.send([size, *_tensors(_part(batch, shares[rank]))], to=rank)
            own = batch_loss(network, _part(batch, shares[LEADER]), self._training).sum()
            loss = own / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total = flat_gradient(network)
            others = self.sum(total)
        for parameter, part in zip(network.parameters(), spread(total, network), strict=True):
            parameter.grad = part
        return loss.detach() + others.sum().to(loss)

    def _shares(self, size: int) -> list[slice]:
        """Shares of ``size`` images that differ by one at most; nobody's is larger than ours."""
        num = len(self._processes) + 1
        bounds = [size - size * (num - rank) // num for rank in range(num + 1)]
        return [slice(start, stop) for start, stop in pairwise(bounds)]

    def sum(self, own: torch.Tensor) -> torch.Tensor:
        """Add every worker's gradients to ``own`` (d,); their losses (n,)."""
        self.tell(Command.SUM)
        self.link.sum_at_leader(own)
        losses = [self.link.receive(1, source=rank)[0] for rank in self.workers]
        return torch.cat([own.new_empty(0), *(each.to(own) for each in losses if each is not None)])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Turn the loss of a worker into an error that says why."""
        if not self.is_open:
            raise TrainingError("a process of training.devices has gone: start the round again")
        with self._whole():
            yield

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            codes = [process.poll() for process in self._processes]
            if all(code is None for code in codes):
                raise
            raise self._gone() from error

    def _gone(self) -> TrainingError:
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        self.close()
        return TrainingError(
            f"a process of training.devices ended: {' '.join(last) or 'without a word'}; with too "
            "little memory for all of them lower training.devices or the batch"
        )


def opened(
    group: DataParallel | None,
    config: RunConfig,
    site: SiteImages,
    *,
    num_classes: int,
    device: torch.device,
) -> DataParallel | None:
    """``group``, or a new one where it was closed; None for one device."""
    if config.training.devices == 1 or (group is not None and group.is_open):
        return group
    return DataParallel(config, num_classes=num_classes, shape=site.form, device=device)


def share_devices(device: torch.device, count: int) -> list[torch.device]:
    """``device`` first, and ``count`` - 1 more: the CPU again, or the CUDA devices after it.

    Raises:     ConfigError naming how many there are.
    """
    if device.type != "cuda":
        return [device] * count
    found = torch.cuda.device_count()
    if count > found:
        raise ConfigError(
            f"training.devices = {count}, but {found} CUDA devices are here: lower it"
        )
    first = device.index or 0
    return [torch.device("cuda", (first + offset) % found) for offset in range(count)]


def _part(batch: Batch, share: slice) -> Batch:
    pair = batch.pair
    return Batch(
        pair=TrainingPair(
            inputs=pair.inputs[share],
            times=pair.times[share],
            target=pair.target[share],
            weight=pair.weight[share],
        ),
        labels=None if batch.labels is None else batch.labels[share],
    )


def _tensors(batch: Batch) -> Sequence[torch.Tensor | None]:
    pair = batch.pair
    return (pair.inputs, pair.times, pair.target, pair.weight, batch.labels)


def _start(settings: dict[str, object], *, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "phoenix_secure.training.data_parallel_worker"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - a fixed list of arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=os.environ | dict.fromkeys(_INTERFACES, _LOOPBACK),
            start_new_session=True,  # Ctrl-C reaches us alone
        )
    if process.stdin is not None:  # it stays open: its end tells the worker of ours
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    return process


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    return process.stdout is not None and process.stdout.readline().strip() == READY.encode()


def _end(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    leave()
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """This machine alone takes part: libraries would listen on any interface else."""
    before = {name: os.environ.get(name) for name in _INTERFACES}
    os.environ.update(dict.fromkeys(_INTERFACES, _LOOPBACK))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
