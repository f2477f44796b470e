"""``phoenix-secure verify``: check a report without trusting whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["verify"]


def verify(
    report: Annotated[Path, typer.Argument(help="A report.json, with report.dsse.json beside it.")],
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            help="The run's folder, or a copy without its folder server, where the keys are.",
        ),
    ] = None,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="roster.bin, from the federation's owner.")
    ] = None,
    owner_key: Annotated[
        str | None,
        typer.Option("--owner-key", help="The owner's public key: hexadecimal digits or a file."),
    ] = None,
    server_key: Annotated[
        str | None,
        typer.Option("--server-key", help="Instead of a roster: the server's public key."),
    ] = None,
    tsa_certificate: Annotated[
        Path | None,
        typer.Option("--tsa-certificate", help="PEM of the time-stamping service that you trust."),
    ] = None,
    signers: Annotated[
        list[str] | None,
        typer.Option("--signer", help="Public key of a counter-signer; may be repeated."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Check signatures, ledger, proofs, files, epsilon and every derived value. Needs no torch.

    Exit code 0: all holds; 5: something was changed or does not follow; 6: all holds, and the
    report itself says FAIL; 7: nothing failed, but not everything could be checked.
    """
    from phoenix_secure.cli import verifying

    return verifying.verify(
        report,
        evidence=evidence,
        roster=roster,
        owner_key=owner_key,
        server_key=server_key,
        tsa_certificate=tsa_certificate,
        signers=signers or [],
        output_format=output_format,
    )
