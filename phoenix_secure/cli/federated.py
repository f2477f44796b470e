"""``run --federation`` and ``resume --federation``: the same run, over real sites."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.cli.progress import RunDisplay, print_guarantee
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.run import FederatedRun
from phoenix_secure.federation.deployment.server_folder import ServerFolder, find_server_folder
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server import skip_round as secure_skip

__all__ = ["load_federated_config", "resume", "run"]


def load_federated_config(file: Path, overrides: list[str], *, members: int) -> RunConfig:
    """The settings of a run over ``members`` sites, where the server has no image to judge with.

    Raises:     ConfigError naming the setting.
    """
    return load_config(
        file,
        [
            f"partition.num_sites={members}",
            "evaluation.num_images=0",
            "evaluation.every_rounds=0",
            "audit.profile=none",
            *overrides,
        ],
    )


def run(
    file: Path,
    overrides: list[str],
    *,
    federation: str,
    run_dir: Path,
    overwrite: bool,
    dry_run: bool,
    output_format: Format,
) -> None:
    """A new run over the sites of ``federation``, or only its plan."""
    server = find_server_folder(federation)
    config = load_federated_config(file, overrides, members=len(server.roster().members))
    display = RunDisplay(config, output_format=output_format)
    job = FederatedRun(config, server=server, observe=display.stage_done)
    if dry_run:
        _show_plan(job, output_format=output_format)
        return
    folder = RunFolder(run_dir)
    state = job.start(folder, overwrite=overwrite)
    with folder.lock():
        _train(job, folder, display, state, output_format=output_format)
        _report(config, folder, server, output_format=output_format)


def resume(run_dir: Path, *, federation: str, skip_round: bool, output_format: Format) -> None:
    """What is left of an interrupted run over real sites."""
    folder = RunFolder(run_dir)
    config: RunConfig = folder.load_config()
    server = find_server_folder(federation)
    with folder.lock():
        display = RunDisplay(config, output_format=output_format)
        job = FederatedRun(config, server=server, observe=display.stage_done)
        if skip_round:
            _skip_round(folder, config, output_format=output_format)
        state = job.resume(folder)
        _train(job, folder, display, state, output_format=output_format)
        _report(config, folder, server, output_format=output_format)


def _report(
    config: RunConfig, folder: RunFolder, server: ServerFolder, *, output_format: Format
) -> None:
    """The signed report, where the settings ask for it."""
    if config.output.report:
        from phoenix_secure.cli.reporting import report_finished_run

        report_finished_run(
            folder.path, as_json=output_format is Format.JSON, key=server.identity_key
        )


def _skip_round(folder: RunFolder, config: RunConfig, *, output_format: Format) -> None:
    number = secure_skip.skip_round(folder, config=config)
    if output_format is Format.JSON:
        print_json({"event": "skipped", "round_number": number})
    else:
        console.print(
            f"round {number} was given up; its sum still counts as seen by the server",
            soft_wrap=True,
        )


def _train(
    job: FederatedRun,
    folder: RunFolder,
    display: RunDisplay,
    state: ServerState,
    *,
    output_format: Format,
) -> None:
    facts = {
        "federation": job.plan.federation,
        "plan": job.plan.hash,
        "sites": list(job.sites),
        "rounds_done": state.round_number,
        "secure_aggregation": job.config.secure_aggregation.mode,
        "guarantee": job.guarantee().text,
    }
    if output_format is Format.JSON:
        print_json({"event": "started", "run_dir": str(folder.path), **facts})
    else:
        for name, value in (facts | {"sites": ", ".join(job.sites)}).items():
            console.print(f"{name.replace('_', ' '):<18} {value}", soft_wrap=True)
        if job.terms is None:
            console.print("[bold red]the server sees every site's update[/]")
    try:
        with display:
            for report in job.rounds(state, folder):
                display.round_done(report)
        with display.working("exporting the model"):
            summary = job.finish(folder)
    except KeyboardInterrupt:
        if output_format is not Format.JSON:
            console.print(
                f"stopped; go on with: phoenix-secure resume {folder.path} --federation ..."
            )
        raise
    if output_format is Format.JSON:
        print_json({"event": "finished", "run_dir": str(folder.path), **summary})
        return
    console.print(
        f"{summary['rounds']} rounds over {summary['sites']} sites in "
        f"{summary['training_seconds']:.0f} s; model in {folder.model}",
        soft_wrap=True,
    )
    print_guarantee(summary["guarantee"])


def _show_plan(job: FederatedRun, *, output_format: Format) -> None:
    terms = None if job.terms is None else job.terms.to_dict()
    plan = {
        "federation": job.plan.federation,
        "plan": job.plan.hash,
        "sites": list(job.sites),
        "parameters": int(job.model.initial_parameters.size),
        "rounds": job.config.federation.rounds,
        "secure_aggregation": job.config.secure_aggregation.mode,
        "secure": terms,
        "guarantee": job.guarantee().text,
        "masked_bytes_per_site": None if job.terms is None else job.terms.masked_bytes,
    }
    if output_format is Format.JSON:
        print_json(plan)
        return
    for name, value in plan.items():
        console.print(f"{name.replace('_', ' '):<22} {value}", soft_wrap=True)
