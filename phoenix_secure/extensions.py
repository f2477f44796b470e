"""Extension points: what users add without changing this program, and how it is found by name.

An extension is any object with the call that its point's protocol shows. It is found by the name
that the settings give, registered in this process (``register``) or installed as an entry point of
the group ``phoenix_secure.POINT``:

    [project.entry-points."phoenix_secure.partition"]
    by-hospital = "my_package:by_hospital"

Names are looked up without importing anything; a package's code runs when its extension is used.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from phoenix_secure.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "AttackExtension",
    "DataSource",
    "ExtensionPoint",
    "HeterogeneityStrategy",
    "Metric",
    "Network",
    "Partition",
    "ReportSection",
    "ReportSectionWriter",
    "ServerOptimizer",
    "Tracker",
    "extension",
    "extension_names",
    "register",
]


class ExtensionPoint(StrEnum):
    """Where an extension takes part; the settings that name it are in brackets."""

    DATA_SOURCE = "data_source"  # data.name
    PARTITION = "partition"  # partition.scheme
    NETWORK = "network"  # model.network
    SERVER_OPTIMIZER = "server_optimizer"  # federation.server_optimizer
    HETEROGENEITY_STRATEGY = "heterogeneity_strategy"  # exchange.strategy
    ATTACK = "attack"  # audit --attack
    METRIC = "metric"  # evaluation.metrics
    TRACKER = "tracker"  # output.trackers
    REPORT_SECTION = "report_section"  # report --section


class DataSource(Protocol):
    """Images of the user's own kind."""

    def __call__(self, path: str | None) -> Mapping[str, Any]:
        """``images`` (N, C, H, H) uint8 and, where there are any, ``labels`` (N,) int64 with
        ``class_names``; ``source`` and ``licence`` as one line each.

        Under differential privacy no image may decide how another is read.
        """


class Partition(Protocol):
    """Deals a simulation's images to its sites."""

    def __call__(
        self,
        labels: np.ndarray | None,
        *,
        num_images: int,
        num_sites: int,
        rng: np.random.Generator,
    ) -> Sequence[np.ndarray]:
        """Each site's indices into ``num_images`` images: disjoint, none left out."""


class Network(Protocol):
    """Builds the network that is trained."""

    def __call__(self, *, image_size: int, channels: int, num_classes: int) -> Any:
        """A ``torch.nn.Module`` called as diffusers' U-Net is: ``module(x, t, class_labels)``.

        It takes and returns (B, channels, image_size, image_size), as a tensor. ``num_classes`` is
        0 for an unconditional model, else labels are 0..num_classes with the last for "no label".
        No layer may mix the images of a batch (no BatchNorm): secure sums and per-image clipping
        both rely on it.
        """


class ServerOptimizer(Protocol):
    """Moves the model by the mean update of a round, at the server and at every site."""

    def __call__(
        self,
        update: np.ndarray,
        *,
        parameters: np.ndarray,
        momentum: np.ndarray,
        second_moment: np.ndarray,
        rate: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next parameters, momentum and second moment; all (d,) float64, the moments zero
        before the first round. ``rate`` is ``server_learning_rate`` with its schedule.

        Sites compute the same step from the same sum and refuse a model that differs in one bit. So
        no state of its own, no random numbers, and of numpy only what is one operation of IEEE 754
        a coordinate: + - * / sqrt, absolute value, sign, comparison, minimum and maximum.
        """


class HeterogeneityStrategy(Protocol):
    """Changes the update of a site before it leaves, so that unequal sites add up better."""

    def __call__(
        self,
        update: np.ndarray,
        *,
        parameters: np.ndarray,
        round_number: int,
        num_steps: int,
    ) -> np.ndarray:
        """The update that the site enters in place of ``update``; (d,) float32, finite.

        update       local minus global parameters (d,) float32, a copy
        parameters   the model that the round began with (d,), read-only
        num_steps    local steps that the site took

        No state and no random numbers of its own: a round that is asked for again, or repeated by
        ``resume``, must end in the same update.

        No guarantee rests on what it does. Under unit ``record`` the update was noised before, so
        that the result is post-processing; under unit ``site`` it is clipped and noised after; a
        secure sum bounds, rounds and masks it after. For that it is given no image, and must read
        none.
        """


class AttackExtension(Protocol):
    """A membership attack that asks the denoiser."""

    def __call__(
        self,
        x: np.ndarray,
        *,
        eps: Any,
        alpha_bar: np.ndarray,
        t: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """One score per image, larger = member.

        x   (N, C, H, H) float32 in [-1, 1]; ``eps(z, t)`` is the predicted noise of z at step t,
        which is one number or one an image.
        """


class Metric(Protocol):
    """A figure of the generated images beside the reference images."""

    def __call__(self, generated: np.ndarray, reference: np.ndarray) -> float:
        """Both (N, C, H, H) float32 in [-1, 1], equally many."""


class Tracker(Protocol):
    """Gets each line of metrics.jsonl: nothing about one site, nothing that privacy hides."""

    def __call__(self, run_dir: Path, line: Mapping[str, Any]) -> None:
        """Called after every round, once its checkpoint is on the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSection:
    """A part of a report's annex: text, a table, or both.

    text      paragraphs
    columns   headings of the table
    rows      its cells, as many a row as there are columns
    """

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


class ReportSectionWriter(Protocol):
    """Writes a section of the annex of a report."""

    def __call__(self, report: Any) -> ReportSection:
        """``report`` is a copy of the ``compliance.schema.Report`` of the edition that is written:
        ``report.value("C2.epsilon")``, ``report.field(id)`` with kind, unit and evidence. A public
        report thus has nothing in its annex that its fields do not show.

        The same report must give the same section. It is plain text: shown escaped, as written by
        the extension and not verified. The signature covers it.
        """


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_REGISTERED: dict[tuple[ExtensionPoint, str], Any] = {}


def register(point: ExtensionPoint | str, name: str, extension: Any) -> None:
    """Make ``extension`` known to this process; a name that is taken is replaced.

    >>> register("metric", "brightness", lambda generated, reference: float(generated.mean()))

    Raises:     ConfigError for a point or a name that cannot be.
    """
    found = _point(point)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"extension name {name!r}: use lower-case letters, digits, - and _")
    if not callable(extension):
        raise ConfigError(f"extension {name}: expected something to call, got {extension!r}")
    _REGISTERED[found, name] = extension


def extension_names(point: ExtensionPoint) -> tuple[str, ...]:
    """Every name that is registered or installed; imports nothing."""
    here = {name for registered, name in _REGISTERED if registered is point}
    return tuple(sorted(here | {each.name for each in _installed(point)}))


def extension(point: ExtensionPoint, name: str) -> Any:
    """The extension of that name; one of this process goes before an installed one.

    Raises:     ConfigError when there is none, or when its package cannot be imported.
    """
    if (point, name) in _REGISTERED:
        return _REGISTERED[point, name]
    for each in _installed(point):
        if each.name == name:
            try:
                return each.load()
            except Exception as error:  # whatever somebody else's package raises
                raise ConfigError(
                    f"the {point.value} {name} of {each.value} cannot be imported "
                    f"({type(error).__name__}: {error}): mend or reinstall its package"
                ) from error
    raise ConfigError(missing(point, name))


def missing(point: ExtensionPoint, name: str) -> str:
    """One line for a name that nothing answers to."""
    known = ", ".join(extension_names(point)) or "none"
    return (
        f"no {point.value.replace('_', ' ')} {name!r} is registered or installed (known: {known}): "
        f"import the module that registers it, or install its package"
    )


def _installed(point: ExtensionPoint) -> importlib.metadata.EntryPoints:
    return _entry_points(point, tuple(sys.path))


@functools.lru_cache(maxsize=64)
def _entry_points(point: ExtensionPoint, path: tuple[str, ...]) -> importlib.metadata.EntryPoints:
    """Reads every package on ``path`` (sys.path), 25 ms; settings ask for each section anew."""
    return importlib.metadata.entry_points(group=f"phoenix_secure.{point.value}")


def _point(point: ExtensionPoint | str) -> ExtensionPoint:
    try:
        return ExtensionPoint(point)
    except ValueError as error:
        raise ConfigError(
            f"no extension point {point!r}: use one of {', '.join(ExtensionPoint)}"
        ) from error
