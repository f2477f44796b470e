"""The table of the benchmark, one CSV file that any number of processes add rows to."""

from __future__ import annotations

import csv
import fcntl
import io
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors, write_bytes

__all__ = ["COLUMNS", "add_row", "locked", "markdown", "read_rows"]

COLUMNS = (
    "dataset",
    "image_size",
    "method",
    "setting",
    "trust",
    "epsilon",
    "delta",
    "seed",
    "accuracy",
    "kid",
    "fd",
    "noise_multiplier",
    "surplus",
    "core_hours",
    "command",
    "recall",
)


_FIGURES = (("accuracy", 3), ("kid", 3), ("fd", 1), ("recall", 2))
_TITLES = (
    *("data", "epsilon", "method", "where", "trust", "seeds"),
    *("accuracy", "KID", "FD", "recall", "noise", "surplus", "core-hours", "changes"),
)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file ``path``; False where another process holds it and ``wait`` is off.

    The system releases it when the process is killed.

    Raises:     StorageError.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of ``path``, none where it is not there.

    Raises:     ConfigError for a file of something else.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ConfigError(
            f"{path} has other columns than the benchmark's: name another file with --csv"
        )
    return rows


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table, those that differ in the seed alone as mean and deviation."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        what = tuple(row[name] for name in ("dataset", "epsilon", "method", "setting", "trust"))
        groups.setdefault((*what, _changes(row["command"])), []).append(row)
    lines = ["| " + " | ".join(_TITLES) + " |", "|" + "---|" * len(_TITLES)]
    for (*columns, changes), group in sorted(groups.items()):
        cells = [*columns, str(len(group))]
        cells += [_spread(group, name, digits=digits) for name, digits in _FIGURES]
        cells += [group[0]["noise_multiplier"], f"{float(group[0]['surplus']):.2f}"]
        cells += [_spread(group, "core_hours", digits=2), changes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(rows: Sequence[Mapping[str, str]], name: str, *, digits: int) -> str:
    values = [float(row[name]) for row in rows]
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _changes(command: str) -> str:
    """The part of a row's command that is no column: overrides, and a number of images."""
    words, kept = shlex.split(command)[3:], []
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            value = words.pop(0)
            kept += [word, value] if word == "--num-images" else []
        else:
            kept.append(word)
    return " ".join(kept)


def add_row(path: Path, row: Mapping[str, object]) -> bool:
    """Add ``row`` unless its command has one already; whether it was added.

    Guarantee:  the file holds whole rows at any moment, whatever other processes add to it.
    Raises:     ConfigError for a file of something else; StorageError.
    """
    new = {name: str(row[name]) for name in COLUMNS}
    with locked(path.with_name(f".{path.name}.lock")):
        rows = read_rows(path)
        if any(each["command"] == new["command"] for each in rows):
            return False
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, new])
        write_bytes(path, text.getvalue().encode())
    return True
