"""What every benchmark's row has: settings of one run, a name, and cells of a table.

A benchmark is a class of rows. Running, evaluating, resuming and the table are the same for all.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks.judging import Figures
from phoenix_secure.experiments.benchmarks.table import TableForm

__all__ = ["ALWAYS", "BenchmarkRow", "Outcome", "choice", "planned"]

Choice = TypeVar("Choice", bound=StrEnum)
Row = TypeVar("Row", bound="BenchmarkRow")

# Of every row's run, whatever the benchmark.
ALWAYS = (
    "evaluation.num_images=0",  # the benchmark evaluates, on images that the run never loads
    "audit.profile=none",
    "output.report=false",
    "output.samples_every_rounds=0",
    # Threads that wait for each other burn cores: rows side by side use two cores better.
    "federation.threads_per_site=1",
    "federation.workers=1",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one finished row has to say.

    guarantees   of its run, and of the release before it where there is one; empty without privacy
    core_hours   CPU time of sums, fit and training, without sampling and evaluating
    """

    figures: Figures
    guarantees: tuple[dict[str, Any], ...]
    core_hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow(ABC):
    """One row: one run, and what its images are worth.

    num_images   synthetic images that the classifiers are trained on
    overrides    changes to the settings, such as release.fit_steps=400
    """

    form: ClassVar[TableForm]
    pixel_classifiers: ClassVar[bool]  # whether LogReg and MLP are trained, too

    seed: int
    num_images: int
    overrides: tuple[str, ...] = ()

    @property
    @abstractmethod
    def config(self) -> RunConfig:
        """The settings of its run.

        Raises:     ConfigError naming the setting, for overrides that do not go with the row.
        """

    @property
    @abstractmethod
    def label(self) -> str:
        """What a person tells rows apart by, without overrides."""

    @property
    @abstractmethod
    def delta(self) -> float | None:
        """Of the guarantee; None without privacy."""

    @property
    @abstractmethod
    def command(self) -> str:
        """What makes this row again."""

    @abstractmethod
    def cells(self, outcome: Outcome) -> dict[str, str]:
        """One entry for each column of ``form``."""

    @property
    def name(self) -> str:
        """Of its folder; the same for the same settings alone."""
        return f"{self.label}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved settings, and of how many images are sampled."""
        values = {"run": self.config.model_dump(mode="json"), "images": self.num_images}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def choice(kind: type[Choice], name: str, *, option: str) -> Choice:
    """The member of ``kind`` that is named so.

    Raises:     ConfigError naming the option and what it can be.
    """
    try:
        return kind(name)
    except ValueError:
        known = ", ".join(kind)
        raise ConfigError(f"{option} {name}: use {known}") from None


def planned(rows: list[Row]) -> list[Row]:
    """``rows``, each once, whose settings go together.

    Raises:     ConfigError with the command of a row whose settings do not.
    """
    found = list(dict.fromkeys(rows))
    for row in found:
        try:
            _ = row.config
        except ConfigError as error:
            raise ConfigError(f"{row.command}: {error}") from error
    return found
