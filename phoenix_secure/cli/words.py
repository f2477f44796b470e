"""Words that people read to each other by telephone: shown to one, asked of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from phoenix_secure.cli.output import Format, console, print_json

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint

__all__ = ["heard_words", "show_fingerprint", "tell"]


def heard_words(whose: str, *, given: str | None, option: str) -> str:
    """The words that a person typed as heard, or those of the option for scripts.

    The right ones are never on the screen: what is shown is copied, and nobody telephones.

    Raises:     ConfigError where nobody can be asked.
    """
    from phoenix_secure.errors import ConfigError

    if given is not None:
        return given
    # Not among the results, which a script may read.
    typer.echo(
        f"Telephone {whose}, at a number that you knew before, and let the words be read.", err=True
    )
    try:
        return str(typer.prompt("The eight words, as you hear them", err=True))
    except typer.Abort as error:
        raise ConfigError(
            f"nothing was done: nobody typed the words; a script gives those that somebody heard "
            f'with {option} "WORD WORD ..."'
        ) from error


def show_fingerprint(fingerprint: Fingerprint) -> None:
    """The words on a line of their own, and all 256 bits for whoever compares on paper."""
    console.print(f"\n    {fingerprint.words}\n", soft_wrap=True)
    console.print(f"in hexadecimal: {fingerprint.hex}", soft_wrap=True)


def tell(facts: dict[str, Any], *, output_format: Format) -> None:
    """Facts as lines, or as one JSON document."""
    if output_format is Format.JSON:
        print_json(facts)
        return
    for name, value in facts.items():
        console.print(f"{name:<12} {value}", soft_wrap=True)
