"""The work behind ``marks check``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.text import Text

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.errors import CheckpointError, DataError
from phoenix_secure.evidence import Event
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.marks import signer_folder
from phoenix_secure.marks.check import Answer, Checked, check_marks
from phoenix_secure.marks.credentials import can_sign
from phoenix_secure.marks.signer import certificate_file, fingerprint_of
from phoenix_secure.printed_text import without_controls

__all__ = ["check"]

_COLOURS = {Answer.MARKED: "green", Answer.CHANGED: "bold red", Answer.UNMARKED: "yellow"}
_SHOWN = 20  # pictures of one answer
_LONGEST = 600  # characters: a guarantee has up to 450


def check(target: Path, *, run: Path | None, output_format: Format) -> int:
    """Check, print, and return the exit code."""
    found = list(check_marks(target, trusted=None if run is None else _certificates_of(run)))
    counts = Counter(each.answer for each in found)
    if counts[Answer.NO_PICTURE] == len(found):
        raise DataError(f"no picture at {target}: PNG, JPEG, WebP, TIFF and GIF are read")
    if output_format is Format.JSON:
        print_json({"files": [_as_dict(each) for each in found], "counts": dict(counts)})
    else:
        _print(found, counts)
    if counts[Answer.CHANGED]:
        return 5
    return 8 if counts[Answer.UNMARKED] else 0


def _certificates_of(run: Path) -> bytes:
    """The certificates of a run's pictures, which its ledger names.

    Raises:     CheckpointError for a run without them; DataError without the extra.
    """
    if not can_sign():
        raise DataError("--run reads content credentials: install the extra, phoenix-secure[marks]")
    file = certificate_file(signer_folder(RunFolder(run)))
    ledger = ledger_file(run)
    if not (file.exists() and ledger.exists()):
        raise CheckpointError(f"{run} is no run that marked its pictures: {file} is missing")
    content = file.read_bytes()
    named = {each.facts.get("certificates_sha256") for each in read_ledger(ledger).of(Event.MARKED)}
    if fingerprint_of(content) not in named:
        raise CheckpointError(f"{file} is not the one that {ledger} names: it was replaced")
    return content


def _print(found: list[Checked], counts: Counter[Answer]) -> None:
    shown: Counter[Answer] = Counter()
    for each in found:
        shown[each.answer] += 1
        if shown[each.answer] <= _SHOWN:
            line = Text(f"{each.answer.value:10} ", style=_COLOURS.get(each.answer, ""))
            console.print(
                line + Text(without_controls(f"{each.path}: {_in_words(each)}")), soft_wrap=True
            )
    for answer, count in counts.items():
        if count > _SHOWN:
            console.print(f"{answer.value}: {count - _SHOWN:,} more")


def _in_words(each: Checked) -> str:
    if each.answer is Answer.NO_PICTURE:
        return "not read as a picture"
    said, origin = each.credentials, each.credentials.origin
    parts = [f"IPTC source type {each.source_type or 'none'}", f"credentials {said.state.value}"]
    if said.signer:
        parts.append(f"signed by {said.signer!r}")
    parts += [f"{name} {_cut(value)}" for name, value in origin.to_dict().items()]
    return "; ".join(parts + list(said.problems))


def _cut(value: str) -> str:
    """What anybody may have written into the picture, on one line of bounded length."""
    flat = " ".join(without_controls(value).split())
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]} (cut: --format json has all)"


def _as_dict(each: Checked) -> dict[str, Any]:
    said = each.credentials
    return {
        "file": str(each.path),
        "answer": each.answer.value,
        "source_type": each.source_type or said.source_type,
        "credentials": said.state.value,
        "signer": said.signer,
        "problems": list(said.problems),
        **said.origin.to_dict(),
    }
