"""The work behind ``verify``, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phoenix_secure.api import verification
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.compliance.verification.checks import State
from phoenix_secure.compliance.verification.verify import Verification

__all__ = ["verify"]

_COLOURS = {State.HOLDS: "green", State.FAILED: "bold red", State.NOT_MADE: "yellow"}
_ANSWERS = {
    0: "everything holds",
    5: "DOES NOT HOLD",
    6: "the report is genuine, and says FAIL",
    7: "nothing failed, but not everything could be checked",
}


def verify(report: Path, *, output_format: Format, **options: Any) -> int:
    """Check with the options of ``api.verification.verify``; the exit code says how it went."""
    found = verification.verify(report, **options)
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
        console.print(f"{each.state.value:9}", style=_COLOURS[each.state], end=" ")
        console.print(
            each.name + (f": {each.detail}" if each.detail else ""), markup=False, soft_wrap=True
        )
    for text in found.report.headline.failures if found.report is not None else ():
        console.print(f"FAIL      {text}", style="bold red", markup=False, soft_wrap=True)
    console.print(_ANSWERS[found.exit_code], style="bold", markup=False)
