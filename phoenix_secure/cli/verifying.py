"""The work behind ``verify``, and what it prints."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.compliance.verification.checks import State
from phoenix_secure.compliance.verification.verify import (
    Verification,
    load_roster,
    parse_key,
    verify_report,
)
from phoenix_secure.errors import ConfigError

__all__ = ["verify"]

_COLOURS = {State.HOLDS: "green", State.FAILED: "bold red", State.NOT_MADE: "yellow"}
_ANSWERS = {
    0: "everything holds",
    5: "DOES NOT HOLD",
    6: "the report is genuine, and says FAIL",
    7: "nothing failed, but not everything could be checked",
}


def verify(
    report: Path,
    *,
    evidence: Path | None,
    roster: Path | None,
    owner_key: str | None,
    server_key: str | None,
    output_format: Format,
) -> int:
    """Check and print; the exit code says how it went."""
    if roster is None and owner_key is not None and evidence is not None:
        roster = evidence / "roster.bin"
    if roster is None and owner_key is not None:
        raise ConfigError("--owner-key needs the roster that it signed: add --roster roster.bin")
    pinned = None
    if roster is not None:
        pinned = load_roster(
            roster, owner_key=None if owner_key is None else _key(owner_key, "--owner-key")
        )
    found = verify_report(
        report,
        evidence=evidence,
        roster=pinned,
        server_key=None if server_key is None else _key(server_key, "--server-key"),
    )
    if output_format is Format.JSON:
        print_json(
            {
                "answer": _ANSWERS[found.exit_code],
                "exit_code": found.exit_code,
                "checks": [
                    {"name": each.name, "state": each.state.value, "detail": each.detail}
                    for each in found.checks
                ],
            }
        )
    else:
        _print(found)
    return found.exit_code


def _print(found: Verification) -> None:
    for each in sorted(found.checks, key=lambda each: each.state is not State.FAILED):
        console.print(f"[{_COLOURS[each.state]}]{each.state.value:9}[/]", end=" ")
        console.print(
            each.name + (f": {each.detail}" if each.detail else ""), markup=False, soft_wrap=True
        )
    for text in found.report.headline.failures if found.report is not None else ():
        console.print(f"FAIL      {text}", style="bold red", markup=False, soft_wrap=True)
    console.print(_ANSWERS[found.exit_code], style="bold", markup=False)


def _key(text: str, option: str) -> bytes:
    """32 bytes, from hexadecimal digits or a file that holds them raw or so written."""
    content: bytes = text.encode()
    path = Path(text)
    try:
        if path.is_file():
            content = path.read_bytes()[:200]
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {path} ({error.strerror})") from error
    try:
        return parse_key(content)
    except ValueError as error:
        raise ConfigError(
            f"{option}: expected 64 hexadecimal digits or a file with a public key"
        ) from error
