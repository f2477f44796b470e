"""``phoenix-secure report``: build a run's signed report, compare two, print schema and template.

``report RUN`` is ``report build RUN``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from phoenix_secure.cli.output import Format, FormatOption
from phoenix_secure.compliance.choices import Edition, Profile

__all__ = ["app"]


class _BuildByDefault(TyperGroup):
    """The first word is a run's folder unless it is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["build", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_BuildByDefault,
    help="Build a run's signed report; `report RUN` is `report build RUN` (see `report build "
    "--help`), and `report --template` prints a commented governance.yaml.",
    no_args_is_help=True,
)


@app.command()
def build(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a finished run.", show_default=False)
    ] = None,
    governance: Annotated[
        Path | None,
        typer.Option("--governance", help="Declared facts; kept as governance.yaml in RUN."),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Folder of the sweep that this run was chosen from."),
    ] = None,
    vulnerabilities: Annotated[
        Path | None,
        typer.Option(
            "--vulnerabilities", help="Export of osv.dev (.json, .zip) to look components up in."
        ),
    ] = None,
    edition: Annotated[
        Edition,
        typer.Option("--edition", help="confidential adds figures per site and class."),
    ] = Edition.PUBLIC,
    profiles: Annotated[
        list[Profile] | None,
        typer.Option("--profile", help="Whose questions to answer; may be repeated."),
    ] = None,
    sections: Annotated[
        list[str] | None,
        typer.Option("--section", help="Extension that writes a part of the annex; repeatable."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The server's identity.key; default RUN/server/identity.key."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default RUN/report.")] = None,
    pdf: Annotated[
        bool | None,
        typer.Option(
            "--pdf/--no-pdf", help="Also report.pdf; by default where the extra is installed."
        ),
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            "--timestamp", help="Address of an RFC 3161 service; without it none is contacted."
        ),
    ] = None,
    template: Annotated[
        bool, typer.Option("--template", help="Print a commented governance.yaml, and no more.")
    ] = False,
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Build the report of RUN and sign it with the server's key.

    Exit code 0: built; 6: built, and the evidence contradicts a claim (FAIL).
    """
    from phoenix_secure.cli import reporting

    if template:
        return reporting.print_template()
    return reporting.build(
        run,
        governance=governance,
        sweep=sweep,
        vulnerabilities=vulnerabilities,
        edition=edition.value,
        profiles=[each.value for each in profiles or []],
        sections=sections or [],
        key=key,
        out=out,
        pdf=pdf,
        timestamp=timestamp,
        output_format=output_format,
    )


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A run's folder, its report's, or a report.json.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Show where two reports differ: settings, figures with intervals, declared facts.

    Epsilons of different units, neighbours or deltas are not ranked.

    Exit code 0: compared; 8: the guarantees cannot be ranked.
    """
    from phoenix_secure.cli import reporting

    return reporting.diff(first, second, output_format=output_format)


@app.command()
def sign(
    report: Annotated[Path, typer.Argument(help="A report.json with its signature beside it.")],
    key: Annotated[Path, typer.Option("--key", help="Your signing key; keep it to yourself.")],
    role: Annotated[
        str, typer.Option("--role", help="As whom, such as: data-protection officer of Clinic A.")
    ] = "",
    statement: Annotated[
        str, typer.Option("--statement", help="What you say; signed along, and shown by verify.")
    ] = "",
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the key first; never over one that exists.")
    ] = False,
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Counter-sign a report, as its data-protection officer does; `verify --signer KEY` checks it.

    The report itself is checked first, as `verify` does without the run's folder.
    """
    from phoenix_secure.cli import reporting

    return reporting.sign(
        report,
        key=key,
        role=role,
        statement=statement,
        new_key=new_key,
        output_format=output_format,
    )


@app.command()
def clauses(
    profiles: Annotated[
        list[Profile] | None,
        typer.Option("--profile", help="Only texts of this profile; may be repeated."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Write the table to this .csv or .tex.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Print which clause asks for which field of a report: source, date and reason of each."""
    from phoenix_secure.cli import clauses as work

    return work.show(tuple(profiles or Profile), table=table, output_format=output_format)


@app.command()
def schema() -> int:
    """Print the JSON schema of report.json."""
    from phoenix_secure.cli import reporting

    return reporting.print_schema()
