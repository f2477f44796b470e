"""``phoenix-secure run`` and ``resume``: the arguments (the work is in ``session``).

The imports inside the functions keep ``--help`` quick: torch and Flower take seconds to load.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption
from phoenix_secure.errors import ConfigError

__all__ = ["resume", "run"]

FederationOption = Annotated[
    str | None,
    typer.Option(
        "--federation",
        help="Run over the real sites of this federation: its name or its server's folder.",
    ),
]


ViaOption = Annotated[
    str | None,
    typer.Option(
        "--via",
        help="folder:PATH, a folder that messages travel in, in place of the network.",
    ),
]


def run(
    file: Annotated[
        Path,
        typer.Argument(help="YAML file with the settings, or a shipped one's name, such as demo."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes such as federation.rounds=3 device=cpu.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="Folder for all results; default runs/NAME-OF-FILE."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is already there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")
    ] = False,
    federation: FederationOption = None,
    via: ViaOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Train one model over several sites, simulated or deployed; export and evaluate it.

    Ctrl-C is safe at any time: `phoenix-secure resume RUN_DIR` goes on to the same weights.
    """
    if federation is not None:
        from phoenix_secure.cli import session

        session.run_deployment(
            file,
            overrides or [],
            federation=federation,
            via=via,
            run_dir=run_dir or Path("runs") / file.stem,
            overwrite=overwrite,
            dry_run=dry_run,
            output_format=output_format,
        )
        return
    _needs_federation(via)
    from phoenix_secure.config_file import load_config, require_once

    require_once(overrides or [])
    config = load_config(file, overrides or [])  # a typo is answered before torch is loaded
    from phoenix_secure.cli import session

    session.run(
        config,
        run_dir=run_dir or Path("runs") / file.stem,
        overwrite=overwrite,
        dry_run=dry_run,
        output_format=output_format,
    )


def resume(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run to go on with.")],
    federation: FederationOption = None,
    via: ViaOption = None,
    skip_round: Annotated[
        bool,
        typer.Option(
            "--skip-round",
            help="Give up a round that sites signed, one of which is gone for good.",
        ),
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="Extend the run to so many rounds in all."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Go on with an interrupted run, to the same weights as an uninterrupted one.

    A finished run exports and evaluates its model once more, or goes on to --rounds.
    """
    if federation is not None:
        if rounds is not None:
            raise ConfigError(
                "--rounds: the owners approved a plan with its rounds; start a new one with "
                "model.init_from=RUN_DIR"
            )
        from phoenix_secure.cli import session

        session.resume_deployment(
            run_dir,
            federation=federation,
            via=via,
            skip=skip_round,
            output_format=output_format,
        )
        return
    _needs_federation(via)
    if skip_round:
        raise ConfigError(
            "--skip-round needs --federation: in a simulation no site is gone for good"
        )
    from phoenix_secure.cli import session

    session.resume(run_dir, rounds=rounds, output_format=output_format)


def _needs_federation(via: str | None) -> None:
    if via is not None:
        raise ConfigError("--via needs --federation: a simulation has no messages to carry")
