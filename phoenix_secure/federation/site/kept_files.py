"""The files that hold what a site has promised, held against its audit log.

A site that loses one of them, or gets an older copy back, would promise a second time: sign other
survivors, show another history, spend a budget twice, draw other randomness. So every line of the
audit log says how far the files had come, and a site that finds one missing, shorter or changed
stops until its owner has decided (``phoenix-secure site recover``).

::

    rounds/PLAN.jsonl, signed-models.jsonl    what was signed
    heads/PLAN.jsonl                          the server's history as it was shown
    privacy.jsonl                             what was released
    training.key, split.key, privacy.key      randomness, members, names of data sets

``kept: {"rounds/PLAN.jsonl": [12, SHA-256]}`` in a line means: when its answer left, the first 12
lines of that file had this hash. What was written since can be more by what one request writes, for
a site may be killed before its line. Much more means that the audit log itself is an older copy.

A folder that was restored as a whole agrees with itself. Signatures that peers hold can show that
(``secure.py``); against a server that withholds them, nothing on this machine can.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.stages import WITNESS_STAGE

__all__ = ["KeptFiles", "Loss", "PromisesLost"]

_OF_A_PLAN = ("rounds/*.jsonl", "heads/*.jsonl")
_OF_THE_SITE = ("privacy.jsonl", "signed-models.jsonl")
_KEYS = ("training.key", "split.key", "privacy.key")
_KEY_LABEL = b"phoenix-secure/kept-key/v1:"
# Records that one request adds to one file, at most, and then some.
_MOST_AT_ONCE = 8
# Stages of secure rounds after which a record must be there.
_PROMISING = ("mask", "check", "result")
_WAY_ON = (
    "put the newest copy back, or, where there is none, give up what it may have promised with "
    "`phoenix-secure site recover FOLDER`"
)


class PromisesLost(CheckpointError):  # noqa: N818
    """A file of promises is missing, or older than the audit log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """One file that is not as the audit log tells.

    plan    whose promises it held; None for those of all plans
    """

    path: str
    plan: str | None
    why: str

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mark:
    """The first ``count`` lines of a file (bytes of a key) have this hash."""

    count: int
    digest: str


@dataclass(kw_only=True, slots=True)
class _Read:
    """A file as far as it was read: whole lines only."""

    offset: int = 0
    count: int = 0
    hash: Any = field(default_factory=hashlib.sha256)

    @property
    def mark(self) -> _Mark:
        return _Mark(count=self.count, digest=self.hash.hexdigest())


class KeptFiles:
    """The files of the site in ``folder``, and what the lines of its audit log say of them.

    closed    plans that `site recover` gave up: the site answers them no more
    """

    def __init__(self, folder: Path, lines: Sequence[dict[str, Any]]) -> None:
        self._folder = folder
        self._marks: dict[str, _Mark] = {}
        self._read: dict[str, _Read] = {}
        self._lost: Loss | None = None
        self._answered: Counter[tuple[str, str]] = Counter()
        self.closed: set[str] = set()
        restored: dict[str, str] = {}
        for line in lines:
            plan, event = str(line.get("plan", "")), line.get("event")
            if "stage" in line:
                self._answered[plan, "any"] += 1
            if event == "answered":
                self._answered[plan, str(line.get("stage"))] += 1
            elif event == "closed":
                self.closed.add(plan)
                restored.pop(plan, None)
            elif event == "restored":
                restored[plan] = str(line.get("why"))
            for path, mark in dict(line.get("kept") or {}).items():
                self._marks[path] = _Mark(count=int(mark[0]), digest=str(mark[1]))
        self._restored = restored

    @property
    def plans(self) -> tuple[str, ...]:
        """Plans under which this site may have promised something, by log and files, sorted."""
        found = {plan for plan, stage in self._answered if stage != "any"}
        found |= {path.stem for path in self._folder.glob("rounds/*.jsonl")}
        return tuple(sorted(found - self.closed - {""}))

    def losses(self) -> list[Loss]:
        """Everything that is not as the log tells, to be looked at before anything is served."""
        found = [
            Loss(path=f"rounds/{plan}.jsonl", plan=plan, why=why)
            for plan, why in self._restored.items()
        ]
        for path in sorted({*self._marks, *self._present(), *self._expected()}):
            plan = _plan_of(path)
            if plan in self.closed:
                continue
            why = self._objection(path)
            if why is not None:
                found.append(Loss(path=path, plan=plan, why=why))
        return found

    def check(self) -> None:
        """Refuse to go on with less than was promised.

        Raises:     PromisesLost naming the first file, and the ways on.
        """
        losses = self.losses()
        if losses:
            more = f" (and {len(losses) - 1} more)" if len(losses) > 1 else ""
            raise PromisesLost(f"{self._folder / losses[0].path} {losses[0].why}{more}: {_WAY_ON}")

    def objection(self, plan: str) -> str | None:
        """Why a request under ``plan`` must not be answered now; None where nothing is missing."""
        if plan in self.closed:
            return "the plan was given up here, by `site recover`"
        for path, read in self._read.items():
            if self._lost is None and self._size(path) < read.offset:
                self._lost = Loss(path=path, plan=_plan_of(path), why="was cut while in use")
        return None if self._lost is None else f"{self._lost}: {_WAY_ON}"

    def news(self) -> dict[str, list[Any]]:
        """Files that grew since the last call, as the next line of the audit log tells of them.

        Raises:     PromisesLost where one became shorter.
        """
        found: dict[str, list[Any]] = {}
        if self._lost is not None:
            return found
        for path in self._present():
            mark = self._advance(path)
            if self._marks.get(path) != mark:
                self._marks[path] = mark
                found[path] = [mark.count, mark.digest]
        return found

    def anew(self) -> dict[str, list[Any]]:
        """Every file as it is, for the line after which the log and the files agree again."""
        gone = {path: [0, _Read().mark.digest] for path in self._marks}
        self._read.clear()
        return gone | {
            path: [mark.count, mark.digest]
            for path in self._present()
            for mark in (self._advance(path),)
        }

    def _objection(self, path: str) -> str | None:
        mark, known = self._marks.get(path), self._present()
        if path in _KEYS:
            is_other = mark is not None and mark.count and self._key(path) != mark
            return "is gone, or is not the one that was used" if is_other else None
        lines = self._lines(path) if path in known else []
        if mark is None:
            return self._objection_without_mark(path, len(lines))
        if len(lines) < mark.count:
            return f"holds {len(lines)} of the {mark.count} lines that audit.jsonl tells of"
        hashed = hashlib.sha256(b"".join(lines[: mark.count])).hexdigest()
        if hashed != mark.digest:
            return "was changed: it is not what audit.jsonl tells of"
        if len(lines) > mark.count + _MOST_AT_ONCE:
            return (
                f"holds {len(lines)} lines and audit.jsonl tells of {mark.count}: audit.jsonl is "
                "an older copy"
            )
        return None

    def _objection_without_mark(self, path: str, count: int) -> str | None:
        """For a log that was begun by version 0.1.0, or anew: its lines alone must fit."""
        plan, least = _plan_of(path), 0
        if plan is not None and path.startswith("rounds/"):
            least = sum(self._answered[plan, stage] for stage in _PROMISING)
        elif plan is not None:
            least = min(1, self._answered[plan, WITNESS_STAGE])
        if count < least:
            return f"holds {count} lines, and audit.jsonl tells of {least} answers that need one"
        is_known = bool(self._answered) if plan is None else bool(self._answered[plan, "any"])
        if count and not is_known:
            return f"holds {count} lines and audit.jsonl tells of none: audit.jsonl is another one"
        return None

    def _expected(self) -> Iterator[str]:
        """Files that the answers in the log need."""
        for plan, stage in self._answered:
            if stage in _PROMISING:
                yield f"rounds/{plan}.jsonl"
            elif stage == WITNESS_STAGE:
                yield f"heads/{plan}.jsonl"

    def _present(self) -> list[str]:
        patterns = (*_OF_A_PLAN, *_OF_THE_SITE, *_KEYS)
        found = (path for pattern in patterns for path in self._folder.glob(pattern))
        return sorted(path.relative_to(self._folder).as_posix() for path in found)

    def _advance(self, path: str) -> _Mark:
        if path in _KEYS:
            return self._key(path)
        read = self._read.setdefault(path, _Read())
        if self._size(path) < read.offset:
            self._lost = Loss(path=path, plan=_plan_of(path), why="was cut while in use")
            raise PromisesLost(f"{self._folder / self._lost.path} {self._lost.why}: {_WAY_ON}")
        try:
            with (self._folder / path).open("rb") as file:
                file.seek(read.offset)
                content = file.read()
        except OSError as error:
            raise PromisesLost(f"cannot read {self._folder / path} ({error.strerror})") from error
        whole = content[: content.rfind(b"\n") + 1]
        read.hash.update(whole)
        read.offset += len(whole)
        read.count += whole.count(b"\n")
        return read.mark

    def _key(self, path: str) -> _Mark:
        try:
            content = (self._folder / path).read_bytes()
        except OSError:
            return _Read().mark
        digest = hashlib.sha256(_KEY_LABEL + content).hexdigest()
        return _Mark(count=len(content), digest=digest)

    def _lines(self, path: str) -> list[bytes]:
        content = (self._folder / path).read_bytes()
        return [line + b"\n" for line in content.split(b"\n")[:-1]]

    def _size(self, path: str) -> int:
        try:
            return (self._folder / path).stat().st_size
        except OSError:
            return 0


def _plan_of(path: str) -> str | None:
    """The plan whose promises are in ``path``; None for those of the whole site."""
    folder, _, name = path.rpartition("/")
    return name.removesuffix(".jsonl") if folder in ("rounds", "heads") else None
