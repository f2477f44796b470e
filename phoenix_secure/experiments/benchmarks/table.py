"""The table of a benchmark, one CSV file that any number of processes add rows to."""

from __future__ import annotations

import csv
import fcntl
import io
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors, write_bytes

__all__ = ["Column", "TableForm", "add_row", "form_of", "locked", "markdown", "read_rows"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as documents have it: rows of several seeds are one mean with ``digits``; None shows
    the first one's text."""

    name: str
    title: str
    digits: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TableForm:
    """The form of one benchmark's table.

    command    of ``phoenix-secure benchmark`` that adds its rows
    columns    of the CSV file; ``seed`` and ``command`` are among them
    kinds      what a row is of: rows that differ in the seed alone agree in these
    shown      what was measured
    """

    command: str
    columns: tuple[str, ...]
    kinds: tuple[Column, ...]
    shown: tuple[Column, ...]


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


def form_of(path: Path, *, forms: Sequence[TableForm]) -> TableForm:
    """The one of ``forms`` that the table in ``path`` has.

    Raises:     ConfigError for a file of something else.
    """
    for form in forms:
        if _header(path) == form.columns:
            return form
    commands = " or ".join(f"`benchmark {form.command}`" for form in forms)
    raise ConfigError(f"{path} is no table of {commands}: name one that they wrote")


def read_rows(path: Path, *, form: TableForm) -> list[dict[str, str]]:
    """The rows of ``path``, none where it is not there.

    Raises:     ConfigError for a file of something else.
    """
    if not path.exists():
        return []
    if _header(path) != form.columns:
        raise ConfigError(
            f"{path} has other columns than `benchmark {form.command}` writes: name another file "
            "with --csv"
        )
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(rows: Sequence[Mapping[str, str]], *, form: TableForm) -> str:
    """The rows as a Markdown table, those that differ in the seed alone as mean and deviation."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        what = tuple(row[column.name] for column in form.kinds)
        groups.setdefault((*what, _changes(row["command"])), []).append(row)
    titles = [column.title for column in form.kinds]
    titles += ["seeds", *(column.title for column in form.shown), "changes"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for (*kind, changes), group in sorted(groups.items()):
        cells = [*kind, str(len(group)), *(_cell(group, column) for column in form.shown), changes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _header(path: Path) -> tuple[str, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(next(csv.reader(file), ()))


def _cell(rows: Sequence[Mapping[str, str]], column: Column) -> str:
    if column.digits is None:
        return rows[0][column.name]
    values = [float(row[column.name]) for row in rows]
    mean = f"{statistics.fmean(values):.{column.digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{column.digits}f}"


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


def add_row(path: Path, row: Mapping[str, object], *, form: TableForm) -> bool:
    """Add ``row`` unless its command has one already; whether it was added.

    Guarantee:  the file holds whole rows at any moment, whatever other processes add to it.
    Raises:     ConfigError for a file of something else; StorageError.
    """
    new = {name: str(row[name]) for name in form.columns}
    with locked(path.with_name(f".{path.name}.lock")):
        rows = read_rows(path, form=form)
        if any(each["command"] == new["command"] for each in rows):
            return False
        text = io.StringIO()
        writer = csv.DictWriter(text, form.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, new])
        write_bytes(path, text.getvalue().encode())
    return True
