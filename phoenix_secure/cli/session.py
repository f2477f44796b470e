"""Starting, continuing and planning a run from the command line, over simulated or real sites."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phoenix_secure.api.pooled_audits import deployed_run
from phoenix_secure.cli.last_lines import print_closing
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.cli.plan import print_deployment_plan, print_plan, print_two_plans
from phoenix_secure.cli.progress import RunDisplay
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config, require_once
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.federation.deployment.deployed_sites import (
    DeployedSites,
    planned_roster_hash,
)
from phoenix_secure.federation.deployment.exchange_folder import open_server_side, parse_via
from phoenix_secure.federation.deployment.server_folder import ServerFolder, find_server_folder
from phoenix_secure.federation.engines.folder import FolderEngine, OnWait
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.phases import (
    finish_first,
    kept_both,
)
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.server.skip_round import skip_round
from phoenix_secure.federation.simulation.estimate import run_seconds
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

__all__ = ["load_deployment_config", "resume", "resume_deployment", "run", "run_deployment"]


# Days, where people carry the messages; what file or command line say comes first. Grace is for the
# sites whose stick comes after the one that made the quorum.
_DAY_S = 86_400
_CARRIED = {
    "federation.deadline_s": 14 * _DAY_S,
    "secure_aggregation.stage_deadline_s": 7 * _DAY_S,
    "secure_aggregation.training_grace_s": 2 * _DAY_S,
    "secure_aggregation.grace_s": 2 * _DAY_S,
}


def load_deployment_config(
    file: Path, overrides: list[str], *, members: int, is_carried: bool = False
) -> RunConfig:
    """The settings of a run over ``members`` real sites, whose server has no image.

    is_carried   whether people carry the messages: waiting times that nobody set are days

    Raises:     ConfigError naming the setting.
    """
    require_once(overrides)
    settings = [
        f"partition.num_sites={members}",
        "evaluation.num_images=0",
        "evaluation.every_rounds=0",
        "audit.profile=none",
        *overrides,
    ]
    # As written: the plan goes to other machines.
    config = load_config(file, settings, as_written=True)
    if not is_carried:
        return config
    patient = [
        f"{name}={seconds}"
        for name, seconds in _CARRIED.items()
        if name.split(".")[1] not in getattr(config, name.split(".")[0]).model_fields_set
    ]
    return load_config(file, [*settings, *patient], as_written=True)


def run(
    config: RunConfig,
    *,
    run_dir: Path,
    overwrite: bool,
    dry_run: bool,
    output_format: Format,
) -> None:
    """A new simulation, or only its plan."""
    if dry_run and config.release.is_first_of_two:
        print_two_plans(config, output_format=output_format)
    elif dry_run:
        sites = SimulatedSites(config, cache_dir=default_cache_dir())
        print_plan(sites, output_format=output_format)
    else:
        _run(config, run_dir=run_dir, overwrite=overwrite, output_format=output_format)


def _run(config: RunConfig, *, run_dir: Path, overwrite: bool, output_format: Format) -> None:
    """Start a simulation, and whatever comes before it."""
    if config.release.is_first_of_two:
        config = finish_first(
            config,
            run_dir,
            overwrite=overwrite,
            start=partial(_start, overwrite=overwrite, output_format=output_format),
            resume=partial(resume, rounds=None, output_format=output_format),
        )
    _start(config, RunFolder(run_dir), overwrite=overwrite, output_format=output_format)


def _start(
    config: RunConfig,
    folder: RunFolder,
    then: Callable[[], object] = lambda: None,
    *,
    overwrite: bool,
    output_format: Format,
) -> None:
    """``then`` is called as soon as the folder is a run's."""
    sites = SimulatedSites(config, cache_dir=default_cache_dir())
    started = Run(sites)
    with folder.lock():
        state = started.start(folder, overwrite=overwrite)
        then()
        _simulate(started, sites, folder, state, output_format=output_format)


def resume(run_dir: Path, *, rounds: int | None, output_format: Format) -> None:
    """Run what is left of an interrupted simulation, or more than it was to run."""
    folder = RunFolder(run_dir)
    both = kept_both(run_dir)
    if both is not None:
        _run(both, run_dir=run_dir, overwrite=False, output_format=output_format)
        return
    folder.load_config()  # a folder of something else is refused before it gets a lock
    with folder.lock():
        if rounds is not None:
            folder.extend(rounds)
        config = folder.load_config()
        sites = SimulatedSites(config, cache_dir=default_cache_dir())
        resumed = Run(sites)
        _simulate(resumed, sites, folder, resumed.resume(folder), output_format=output_format)


def run_deployment(
    file: Path,
    overrides: list[str],
    *,
    federation: str,
    via: str | None,
    run_dir: Path,
    overwrite: bool,
    dry_run: bool,
    output_format: Format,
) -> None:
    """A new run over the sites of ``federation``, or only its plan."""
    way = _Way.of(federation, via)
    config = load_deployment_config(
        file, overrides, members=len(way.members), is_carried=way.root is not None
    )
    if dry_run:
        sites = DeployedSites(config, server=way.server)
        print_deployment_plan(sites, output_format=output_format)
        return
    display = RunDisplay(config, output_format=output_format)
    folder = RunFolder(run_dir)
    with folder.lock(), way.opened():
        sites = way.sites(config, display=display)
        started = deployed_run(sites)
        state = started.start(folder, overwrite=overwrite)
        _train_deployed(started, sites, folder, state, display=display, go_on=way.options)
        _tell_audit(folder, config, output_format=output_format)
        _report(folder, config, output_format=output_format, server=way.server)


def resume_deployment(
    run_dir: Path, *, federation: str, via: str | None, skip: bool, output_format: Format
) -> None:
    """Run what is left of an interrupted run over real sites."""
    folder = RunFolder(run_dir)
    config = folder.load_config()
    way = _Way.of(federation, via)
    display = RunDisplay(config, output_format=output_format)
    with folder.lock(), way.opened():
        sites = way.sites(config, display=display, roster_hash=planned_roster_hash(folder))
        if skip:
            _skip_round(folder, config, output_format=output_format)
        resumed = deployed_run(sites)
        state = resumed.resume(folder)
        _train_deployed(resumed, sites, folder, state, display=display, go_on=way.options)
        _tell_audit(folder, config, output_format=output_format)
        _report(folder, config, output_format=output_format, server=way.server)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """The way to the sites of a federation.

    root      the folder that messages travel in; None for the network
    options   of the command line, to take the same way again
    """

    server: ServerFolder
    root: Path | None
    options: str

    @classmethod
    def of(cls, federation: str, via: str | None) -> _Way:
        """``via`` comes before what server.yaml says."""
        server = find_server_folder(federation)
        folder = server.settings().folder
        root = parse_via(via) if via is not None else None if folder is None else Path(folder)
        options = f"--federation {shlex.quote(federation)}"
        if via is not None:
            options += f" --via {shlex.quote(via)}"
        return cls(server=server, root=root, options=options)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all sites."""
        return tuple(site for site, _ in self.server.roster().members)

    def opened(self) -> AbstractContextManager[None]:
        """The folder, taken for this run; nothing is to be opened for the network."""
        if self.root is None:
            return nullcontext()
        return open_server_side(self.root, rosters=self.server.rosters())

    def sites(
        self, config: RunConfig, *, display: RunDisplay, roster_hash: bytes | None = None
    ) -> DeployedSites:
        """``roster_hash``: of the roster that an earlier start of the run planned with."""
        make_engine = None
        if self.root is not None:
            make_engine = partial(
                _folder_engine,
                self.root,
                sites=self._members_of(roster_hash),
                on_wait=display.waiting,
            )
        return DeployedSites(
            config,
            server=self.server,
            make_engine=make_engine,
            is_carried=self.root is not None,
            roster_hash=roster_hash,
        )

    def _members_of(self, roster_hash: bytes | None) -> tuple[str, ...]:
        rosters = self.server.rosters()
        planned = None if roster_hash is None else rosters.named(roster_hash)
        return tuple(site for site, _ in (planned or rosters.current).members)


def _folder_engine(
    root: Path, session: str, *, sites: tuple[str, ...], on_wait: OnWait
) -> FolderEngine:
    return FolderEngine(root, sites=sites, session=session, on_wait=on_wait)


def _simulate(
    started: Run,
    sites: SimulatedSites,
    folder: RunFolder,
    state: ServerState,
    *,
    output_format: Format,
) -> None:
    """Train, then audit and report where the settings ask for it."""
    profile, as_json = started.config.audit.profile, output_format is Format.JSON
    if profile != "none" and state.round_number == 0:
        from phoenix_secure.api.attacks import fix_terms

        fix_terms(folder, profile=profile)
    display = RunDisplay(
        started.config,
        output_format=output_format,
        images_trained=lambda: sites.images_trained.total,
    )
    display.open_simulation(sites, folder=folder.path, rounds_done=state.round_number)
    if not as_json and state.round_number == 0:
        display.expect(run_seconds(sites), is_audited=profile != "none")
    _train(started, folder, display, state, go_on=f"phoenix-secure resume {folder.path}")
    audited = None
    if profile != "none":
        from phoenix_secure.cli.auditing import audit_finished_run

        audited = audit_finished_run(folder, profile=profile, as_json=as_json)
    _report(folder, started.config, output_format=output_format)
    if started.config.output.report and not as_json:
        print_closing(
            read_summary(folder.path), started.config, folder=folder.path, audited=audited
        )


def _train_deployed(
    started: Run,
    sites: DeployedSites,
    folder: RunFolder,
    state: ServerState,
    *,
    display: RunDisplay,
    go_on: str,
) -> None:
    """``go_on`` are the options of ``resume`` that lead to the same sites."""
    display.open_deployment(sites, folder=folder.path, rounds_done=state.round_number)
    command = f"phoenix-secure resume {shlex.quote(str(folder.path))} {go_on}"
    _train(started, folder, display, state, go_on=command)


def _train(
    started: Run, folder: RunFolder, display: RunDisplay, state: ServerState, *, go_on: str
) -> None:
    try:
        with display:
            for event in started.events(state, folder):
                display.show(event)
        with display.working("exporting the model and evaluating its samples"):
            summary = started.finish(folder)
    except KeyboardInterrupt:
        display.interrupted(go_on)
        raise
    display.close(summary, folder=folder.path)


def _tell_audit(folder: RunFolder, config: RunConfig, *, output_format: Format) -> None:
    """What the sites found, where the plan has an audit."""
    if config.audit.at_sites:
        from phoenix_secure.cli.auditing import print_pooled_audit

        print_pooled_audit(folder, as_json=output_format is Format.JSON)


def _report(
    folder: RunFolder,
    config: RunConfig,
    *,
    output_format: Format,
    server: ServerFolder | None = None,
) -> None:
    """Write the signed report, where the settings ask for it."""
    if config.output.report:
        from phoenix_secure.cli.reporting import report_finished_run

        key = None if server is None else server.identity_key
        report_finished_run(folder.path, as_json=output_format is Format.JSON, key=key)


def _skip_round(folder: RunFolder, config: RunConfig, *, output_format: Format) -> None:
    number = skip_round(folder, config=config)
    if output_format is Format.JSON:
        print_json({"event": "skipped", "round_number": number})
    else:
        console.print(
            f"round {number} was given up; its sum still counts as seen by the server",
            soft_wrap=True,
        )
