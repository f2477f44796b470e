"""Starting, continuing and planning a run from the command line."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.cli.output import Format
from phoenix_secure.cli.plan import print_plan
from phoenix_secure.cli.progress import RunDisplay
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.simulation.run import EmbeddedFederation

__all__ = ["resume", "run"]


def run(
    file: Path,
    overrides: list[str],
    *,
    run_dir: Path,
    overwrite: bool,
    dry_run: bool,
    output_format: Format,
) -> None:
    """A new run, or only its plan."""
    config = load_config(file, overrides)
    display = RunDisplay(config, output_format=output_format)
    federation = _federation(config, display)
    if dry_run:
        print_plan(federation, output_format=output_format)
        return
    folder = RunFolder(run_dir)
    state = federation.start(folder, overwrite=overwrite)
    with folder.lock():
        _train(federation, folder, display, state)


def resume(run_dir: Path, *, output_format: Format) -> None:
    """What is left of an interrupted run."""
    folder = RunFolder(run_dir)
    config = folder.load_config()
    with folder.lock():
        display = RunDisplay(config, output_format=output_format)
        federation = _federation(config, display)
        state = federation.resume(folder)
        _train(federation, folder, display, state)


def _federation(config: RunConfig, display: RunDisplay) -> EmbeddedFederation:
    return EmbeddedFederation(
        config,
        cache_dir=default_cache_dir(),
        progress=display.images_done,
        observe=display.stage_done,
    )


def _train(
    federation: EmbeddedFederation, folder: RunFolder, display: RunDisplay, state: ServerState
) -> None:
    profile = federation.config.audit.profile
    if profile != "none" and state.round_number == 0:
        from phoenix_secure.cli.auditing import fix_terms

        fix_terms(folder, profile=profile)
    display.opening(federation, folder=folder.path, rounds_done=state.round_number)
    try:
        with display:
            for report in federation.rounds(state, folder):
                display.round_done(report)
        with display.working("exporting the model and judging its samples"):
            summary = federation.finish(folder)
    except KeyboardInterrupt:
        display.interrupted(folder.path)
        raise
    display.closing(summary, folder=folder.path)
    if profile != "none":
        from phoenix_secure.cli.auditing import audit_finished_run

        audit_finished_run(folder, profile=profile, as_json=display.as_json)
    if federation.config.output.report:
        from phoenix_secure.cli.reporting import report_finished_run

        report_finished_run(folder.path, as_json=display.as_json)
