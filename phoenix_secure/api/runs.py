"""Runs: train over simulated sites, go on after an interruption, look at what came out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from phoenix_secure.api import attacks, models, quality, reports
from phoenix_secure.api.given_images import data_settings
from phoenix_secure.api.results import (
    AuditResult,
    Quality,
    ReportResult,
    Samples,
    png_html,
    table_html,
)
from phoenix_secure.config import RunConfig
from phoenix_secure.config.paths import with_absolute_paths
from phoenix_secure.config_file import load_config, parse_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.report import RoundReport, RunEvent
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.phases import (
    finish_first,
    kept_both,
)
from phoenix_secure.federation.run.summary import RunSummary, read_summary
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

__all__ = ["RunResult", "open_run", "resume", "run"]

OnEvent = Callable[[RunEvent], object]
Settings = str | Path | Mapping[str, Any] | RunConfig | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, and what can be done with it."""

    path: Path

    @property
    def config(self) -> RunConfig:
        """The settings it was started with."""
        return RunFolder(self.path).load_config()

    @property
    def summary(self) -> RunSummary:
        """Totals, quality and guarantee, as summary.json has them."""
        return read_summary(self.path)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A dictionary for each round: ``pandas.DataFrame(result.metrics)``."""
        return RunFolder(self.path).read_metrics()

    @property
    def model(self) -> Path:
        """The model as a diffusers pipeline folder."""
        return RunFolder(self.path).model

    def sample(self, num_images: int = 64, **options: Any) -> Samples:
        """Sample images; the options of ``phoenix_secure.sample``."""
        return models.sample(self.path, num_images, **options)

    def evaluate(self, **options: Any) -> Quality:
        """Compare with the run's held-out images; the options of ``phoenix_secure.evaluate``."""
        return quality.evaluate(self.path, **options)

    def audit(self, **options: Any) -> AuditResult:
        """Attack the model; the options of ``phoenix_secure.audit``."""
        return attacks.audit(self.path, **options)

    def report(self, **options: Any) -> ReportResult:
        """Build and sign the report; the options of ``phoenix_secure.report``."""
        return reports.report(self.path, **options)

    def _repr_html_(self) -> str:
        summary = self.summary
        guarantee = (summary.guarantee or {}).get("text", "none")
        secure = "off: the server saw every site's update" if summary.secure is None else "on"
        rows = [
            ("folder", str(self.path)),
            ("rounds, sites", f"{summary.rounds}, {summary.sites}"),
            ("parameters", f"{summary.num_parameters:,}"),
            ("bytes up, down", f"{summary.bytes_up:,}, {summary.bytes_down:,}"),
            ("secure aggregation", secure),
            ("guarantee", str(guarantee)),
        ]
        samples = self.path / "samples.png"
        picture = png_html(samples.read_bytes()) if samples.is_file() else ""
        return table_html(("", "run"), rows) + picture


def run(
    settings: Settings = None,
    *overrides: str,
    data: object = None,
    run_dir: str | Path,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    progress: bool | None = None,
) -> RunResult:
    """Train one model over simulated sites, export and evaluate it.

    settings    a YAML file, a shipped file's name such as "demo", nested dictionaries, a RunConfig,
                or nothing for the defaults
    overrides   changes such as "federation.rounds=3"
    data        images in place of the settings' own: ``given_images.data_settings`` says which.
                Those from memory are kept in RUN_DIR-images.npz, beside the run
    on_event    is called with each stage's and each round's report
    progress    a progress bar; by default where a terminal or a notebook shows it

    Ctrl-C is safe at any time: ``resume(run_dir)`` goes on to the same weights.

    >>> import phoenix_secure as ps
    >>> result = ps.run("demo", run_dir="runs/demo")  # doctest: +SKIP
    >>> result.sample(16).save("digits.png")  # doctest: +SKIP

    Raises:     ConfigError, DataError, StorageError, TrainingError: each one line that names the
                setting and the fix.
    """
    folder = RunFolder(Path(run_dir).expanduser())
    config = _config(settings, overrides)
    if data is not None:
        keep_at = folder.path.with_name(f"{folder.path.name}-images.npz")
        values = config.model_dump(mode="json")
        values["data"] |= data_settings(data, keep_at=keep_at)
        config = parse_config(values, source="data")
    if config.release.is_first_of_two:
        config = finish_first(
            config,
            folder.path,
            overwrite=overwrite,
            start=partial(_start, overwrite=overwrite, on_event=on_event, progress=progress),
            resume=partial(resume, on_event=on_event, progress=progress),
        )
    return _start(config, folder, overwrite=overwrite, on_event=on_event, progress=progress)


def _start(
    config: RunConfig,
    folder: RunFolder,
    then: Callable[[], object] = lambda: None,
    *,
    overwrite: bool,
    on_event: OnEvent | None,
    progress: bool | None,
) -> RunResult:
    """``then`` is called as soon as the folder is a run's."""
    started = Run(SimulatedSites(config, cache_dir=default_cache_dir()))
    with folder.lock():
        state = started.start(folder, overwrite=overwrite)
        then()
        return _finish(started, folder, state, on_event=on_event, progress=progress)


def resume(
    run_dir: str | Path,
    *,
    rounds: int | None = None,
    on_event: OnEvent | None = None,
    progress: bool | None = None,
) -> RunResult:
    """Run what is left of an interrupted run, to the same weights as an uninterrupted one.

    rounds      extend the run to so many in all; not where its noise was made for fewer

    Raises:     as ``run``; CheckpointError for a folder that holds no run.
    """
    folder = RunFolder(Path(run_dir).expanduser())
    both = kept_both(folder.path)
    if both is not None:
        return run(both, run_dir=folder.path, on_event=on_event, progress=progress)
    folder.load_config()  # a folder of something else is refused before it gets a lock
    with folder.lock():
        if rounds is not None:
            folder.extend(rounds)
        config = folder.load_config()
        resumed = Run(SimulatedSites(config, cache_dir=default_cache_dir()))
        state = resumed.resume(folder)
        return _finish(resumed, folder, state, on_event=on_event, progress=progress)


def open_run(run_dir: str | Path) -> RunResult:
    """A run that was finished before.

    Raises:     CheckpointError when there is none.
    """
    read_summary(Path(run_dir).expanduser())
    return RunResult(Path(run_dir).expanduser())


def _config(settings: Settings, overrides: Sequence[str]) -> RunConfig:
    if isinstance(settings, RunConfig | Mapping):
        given = settings.model_dump(mode="json") if isinstance(settings, RunConfig) else settings
        return with_absolute_paths(parse_config(given, overrides), folder=Path.cwd())
    if settings is not None and not isinstance(settings, str | Path):
        raise ConfigError(
            f"settings: expected a file, a name, a dictionary or a RunConfig, got a "
            f"{type(settings).__name__}"
        )
    return load_config(settings, overrides)


def _finish(
    started: Run,
    folder: RunFolder,
    state: ServerState,
    *,
    on_event: OnEvent | None,
    progress: bool | None,
) -> RunResult:
    """Train, export, and what ``audit.profile`` and ``output.report`` ask for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about widgets: without them the bar is text
        from tqdm.auto import tqdm

    config, rounds = started.config, started.config.federation.rounds
    profile = config.audit.profile
    if profile != "none" and state.round_number == 0:
        attacks.fix_terms(folder, profile=profile)
    disable = None if progress is None else not progress
    with tqdm(total=rounds, initial=state.round_number, unit="round", disable=disable) as bar:
        for event in started.events(state, folder):
            if on_event is not None:
                on_event(event)
            if isinstance(event, RoundReport):
                bar.set_postfix({} if event.loss is None else {"loss": f"{event.loss:.4f}"})
                bar.update()
    started.finish(folder)
    if profile != "none":
        attacks.audit_finished_run(folder, profile=profile)
    if config.output.report:
        reports.report(folder.path)
    return RunResult(folder.path)
