"""Looks for marks in files: of this program or of any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from phoenix_secure.errors import DataError
from phoenix_secure.marks.credentials import Credentials, State, read_credentials
from phoenix_secure.marks.xmp import SourceType, source_type_in

__all__ = ["Answer", "Checked", "check_marks"]

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")
_MARKS = {each.value for each in SourceType}
_NO_CREDENTIALS = Credentials(state=State.NONE)


class Answer(StrEnum):
    """What can be said of a picture."""

    MARKED = "marked"
    CHANGED = "changed"  # since it was signed, or not signed by the run that was asked for
    UNMARKED = "unmarked"
    NO_PICTURE = "no picture"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """One file. ``source_type`` is IPTC's term in its metadata, of whatever kind."""

    path: Path
    answer: Answer
    source_type: str | None = None
    credentials: Credentials = _NO_CREDENTIALS


def check_marks(target: Path, *, trusted: bytes | None = None) -> Iterator[Checked]:
    """Every file of a folder, or one file.

    trusted     certificates of a run (PEM): pictures must be signed by its key

    Raises:     DataError where there is nothing to look at.
    """
    if target.is_dir():
        files = sorted(path for path in target.rglob("*") if path.is_file())
    else:
        files = [target]
    if not files or not files[0].exists():
        raise DataError(f"nothing to check at {target}: name a picture or a folder of pictures")
    for path in files:
        yield _checked(path, trusted=trusted)


def _checked(path: Path, *, trusted: bytes | None) -> Checked:
    try:
        content = path.read_bytes()
        with Image.open(path, formats=_FORMATS) as picture:
            packet = picture.info.get("XML:com.adobe.xmp") or picture.info.get("xmp")
            mime = Image.MIME.get(picture.format or "", "image/png")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Checked(path=path, answer=Answer.NO_PICTURE)
    source = source_type_in(packet) if isinstance(packet, str | bytes) else None
    credentials = read_credentials(content, mime=mime, trusted=trusted)
    return Checked(
        path=path,
        answer=_answer(source, credentials, is_run_asked=trusted is not None),
        source_type=source,
        credentials=credentials,
    )


def _answer(source: str | None, found: Credentials, *, is_run_asked: bool) -> Answer:
    if found.state is State.CHANGED or (is_run_asked and found.state is not State.TRUSTED):
        return Answer.CHANGED
    # A camera signs its pictures, too: what counts is what they are said to be.
    return Answer.MARKED if {source, found.source_type} & _MARKS else Answer.UNMARKED
