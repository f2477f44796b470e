"""Optional trackers beside metrics.jsonl, which is always written.

A tracker gets what metrics.jsonl gets, the sample grids, the settings, and the epsilon that the
rounds so far have spent: nothing about one site, and no metric that differential privacy keeps at
the sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from phoenix_secure.config import RunConfig
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.privacy.accounting import bound_of

__all__ = ["Tracker", "Trackers", "quality_numbers"]

Write = Callable[[Path, dict[str, Any]], None]

_EPSILONS = 50  # of a run: each takes the accountant a fraction of a second
_QUALITY = ("kid", "frechet", "precision", "recall", "density", "coverage")


class Tracker(Protocol):
    """A tool that shows one run's figures and pictures; steps are rounds."""

    def log(self, folder: Path, *, step: int, numbers: Mapping[str, float]) -> None:
        """Figures after a round."""

    def show(self, folder: Path, *, step: int, picture: Path) -> None:
        """A sample grid; its file leaves as it is, marks included."""

    def close(self, folder: Path, *, numbers: Mapping[str, float]) -> None:
        """The run has ended with these figures; it may go on later."""


class Trackers:
    """All trackers that the settings name.

    Raises:     ConfigError when one is asked for and its extra is not installed.
    """

    def __init__(self, config: RunConfig, *, privacy: PrivacyPlan | None = None) -> None:
        self._config = config
        self._privacy = None if config.privacy.noise_source == "seeded" else privacy
        self._tools: list[Tracker] = []
        if config.output.tensorboard:
            from phoenix_secure.federation.run.tensorboard_tracker import TensorBoard

            self._tools.append(TensorBoard(config))
        if config.output.mlflow is not None:
            from phoenix_secure.federation.run.mlflow_tracker import MLflow

            self._tools.append(MLflow(config, uri=config.output.mlflow))
        if config.output.wandb:
            from phoenix_secure.federation.run.wandb_tracker import WandbOffline

            self._tools.append(WandbOffline(config))
        self._extensions: list[Write] = [
            extension(ExtensionPoint.TRACKER, name) for name in config.output.trackers
        ]

    def round(self, folder: Path, line: dict[str, Any]) -> None:
        """Hand on one line of metrics.jsonl."""
        for write in self._extensions:
            write(folder, line)
        if not self._tools:
            return
        step = int(line["round_number"])
        numbers = _numbers(line) | quality_numbers(line.get("quality"))
        if self._tells_epsilon(step):
            numbers |= self._spent(step)
        for each in self._tools:
            each.log(folder, step=step, numbers=numbers)

    def samples(self, folder: Path, *, step: int, picture: Path) -> None:
        """Show the grid that was just written."""
        for each in self._tools:
            each.show(folder, step=step, picture=picture)

    def finished(
        self, folder: Path, *, step: int, quality: dict[str, Any] | None, picture: Path
    ) -> None:
        """The last figures, beside the settings, and the last grid."""
        if not self._tools:
            return
        judged, spent = quality_numbers(quality), self._spent(step)
        for each in self._tools:
            each.log(
                folder, step=step, numbers=judged | ({} if self._tells_epsilon(step) else spent)
            )
            each.show(folder, step=step, picture=picture)
            each.close(folder, numbers=judged | spent)

    def _tells_epsilon(self, rounds: int) -> bool:
        return rounds % -(-self._config.federation.rounds // _EPSILONS) == 0

    def _spent(self, rounds: int) -> dict[str, float]:
        """The most that one site has spent after so many rounds; what it started from included."""
        if self._privacy is None:
            return {}
        releases = min(rounds, self._privacy.max_releases)
        events = (*self._privacy.before, *self._privacy.events(releases))
        return {"epsilon_spent": bound_of(events, delta=self._config.privacy.delta)}


def quality_numbers(quality: dict[str, Any] | None) -> dict[str, float]:
    """KID and its neighbours of the generated images, where they were evaluated."""
    row = quality["rows"]["generated"] if quality else {}
    return {name: float(row[name]) for name in _QUALITY if row.get(name) is not None}


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "round_number"
    }
