"""Noised answers that may have left, on the site's own disk until nobody needs them any more.

::

    releases/PLAN.bin    the newest answer under one plan: round, model, ledger entry, noised bytes

A repeated answer must carry the noise of the first one, and no other plan's: the same noise under
two plans, or two noises on one update, would be subtracted or averaged away. What is kept is noised
already. A file says which plan, round and model it belongs to, and is read for no other. It goes
when a later round begins, or when the server has shown that it holds the round's result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import write_bytes

__all__ = ["KeptAnswer", "KeptAnswers"]

_LENGTH_SIZE = 4


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class KeptAnswer:
    """An answer that may have left: under which plan, of which round and model.

    id      of its entry in the privacy ledger
    body    noised
    """

    plan: str
    round_number: int
    model: str
    id: str
    body: bytes

    def to_bytes(self) -> bytes:
        header = {
            "plan": self.plan,
            "round": self.round_number,
            "model": self.model,
            "id": self.id,
        }
        text = json.dumps(header).encode()
        return len(text).to_bytes(_LENGTH_SIZE, "big") + text + self.body

    @classmethod
    def from_bytes(cls, content: bytes, *, plan: str | None = None) -> KeptAnswer:
        """What ``to_bytes`` wrote; ``plan`` for a file of 0.1.0, which names none."""
        end = _LENGTH_SIZE + int.from_bytes(content[:_LENGTH_SIZE], "big")
        header = json.loads(content[_LENGTH_SIZE:end])
        return cls(
            plan=str(header["plan"] if plan is None else plan),
            round_number=int(header["round"]),
            model=str(header["model"]),
            id=str(header["id"]),
            body=content[end:],
        )


class KeptAnswers:
    """The answers under ``plan`` in the site's ``folder``."""

    def __init__(self, folder: Path, *, plan: str) -> None:
        self._plan = plan
        self._file = _file(folder, plan)

    def find(self, round_number: int, *, model: str) -> KeptAnswer | None:
        """The answer of this round and model, if it is the one kept.

        Raises:     CheckpointError for a damaged file.
        """
        kept = self._read()
        if kept is None or kept.plan != self._plan:
            return None
        return kept if (kept.round_number, kept.model) == (round_number, model) else None

    def keep(self, kept: KeptAnswer) -> None:
        """Keep ``kept`` in place of the one before."""
        write_bytes(self._file, kept.to_bytes(), mode=0o600)

    def forget(self, until: int | None = None) -> None:
        """Delete the answer; with ``until`` only one of that round or an earlier one."""
        if until is not None:
            kept = self._read()
            if kept is None or kept.round_number > until:
                return
        self._file.unlink(missing_ok=True)

    def _read(self) -> KeptAnswer | None:
        return _read(self._file)

    @classmethod
    def take_over(
        cls, folder: Path, *, plan_of: Callable[[str], str | None], noised: Callable[[bytes], bytes]
    ) -> None:
        """Move an answer that version 0.1.0 kept to its plan, noised; one that never left goes.

        plan_of   the plan of a ledger entry; None where there is no such entry
        noised    makes words plus noise of a body that holds both

        Raises:     CheckpointError for a damaged file.
        """
        old = folder / "release.bin"
        kept = _read(old, plan="")
        if kept is None:
            return
        plan = plan_of(kept.id)
        if plan is not None:
            moved = KeptAnswer(
                plan=plan,
                round_number=kept.round_number,
                model=kept.model,
                id=kept.id,
                body=noised(kept.body),
            )
            cls(folder, plan=plan).keep(moved)
        old.unlink()


def _file(folder: Path, plan: str) -> Path:
    return folder / "releases" / f"{plan.replace(' ', '-')}.bin"


def _read(path: Path, *, plan: str | None = None) -> KeptAnswer | None:
    if not path.exists():
        return None
    try:
        return KeptAnswer.from_bytes(path.read_bytes(), plan=plan)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged: delete it; the next answer counts as a new release"
        ) from error
