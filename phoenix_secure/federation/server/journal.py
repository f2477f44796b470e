"""What the server must remember about secure rounds beside its checkpoints.

Protocol rounds are numbered by themselves, because a training round may need several: a number is
written here before it is used, so that none is ever used twice. A survivor set is written before
anybody is asked to sign it: should the result be lost, the training round can be summed again over
these very sites, which is all that they will still agree to. The transcript is written before the
result goes out, because sites compare the next round's offer with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phoenix_secure.append_log import AppendLog
from phoenix_secure.errors import TrainingError

__all__ = ["SecureJournal"]

_NO_TRANSCRIPT = bytes(32)


class SecureJournal:
    """The file at ``path``; one server process at a time (the run folder's lock sees to it)."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)
        self._last_round = 0
        self._previous = _NO_TRANSCRIPT
        self._survivors: dict[int, tuple[str, ...]] = {}
        self._given_up: set[int] = set()
        self._load()

    @classmethod
    def create(cls, path: Path) -> SecureJournal:
        """The empty journal of a new run."""
        AppendLog(path).create()
        return cls(path)

    @property
    def previous(self) -> bytes:
        """Transcript hash of the last finished round, zero bytes before the first."""
        return self._previous

    def survivors(self, training_round: int) -> tuple[str, ...] | None:
        """The first set that sites were asked to sign for ``training_round``, if any was."""
        return self._survivors.get(training_round)

    @property
    def given_up(self) -> tuple[int, ...]:
        """Training rounds that were signed and are never summed again, sorted."""
        return tuple(sorted(self._given_up))

    def reserve(self, training_round: int) -> int:
        """The next protocol round, for a new sum of ``training_round``.

        Raises:     TrainingError for a round that was given up.
        """
        if training_round in self._given_up:
            raise TrainingError(
                f"round {training_round} was given up: resume with --skip-round to go past it"
            )
        number = self._last_round + 1
        self._write({"kind": "reserved", "round": number, "training_round": training_round})
        return number

    def record_survivors(self, training_round: int, *, survivors: tuple[str, ...]) -> None:
        """Before the set goes out to be signed."""
        if training_round not in self._survivors:
            self._write(
                {
                    "kind": "survivors",
                    "round": self._last_round,
                    "training_round": training_round,
                    "survivors": list(survivors),
                }
            )

    def record_given_up(self, training_round: int) -> None:
        """Before the checkpoint that goes past the round."""
        if training_round not in self._given_up:
            self._write({"kind": "given-up", "training_round": training_round})

    def record_result(self, training_round: int, *, transcript: bytes) -> None:
        """Before the result goes out."""
        self._write(
            {
                "kind": "result",
                "round": self._last_round,
                "training_round": training_round,
                "transcript": transcript.hex(),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._log.append(line)
        self._load()

    def _load(self) -> None:
        for line in self._log.read_new():
            try:
                self._apply(line)
            except (KeyError, TypeError, ValueError) as error:
                raise self._log.damaged() from error

    def _apply(self, line: dict[str, Any]) -> None:
        match line["kind"]:
            case "reserved":
                self._last_round = int(line["round"])
            case "survivors":
                self._survivors.setdefault(int(line["training_round"]), tuple(line["survivors"]))
            case "given-up":
                self._given_up.add(int(line["training_round"]))
            case "result":
                self._previous = bytes.fromhex(line["transcript"])
            case _:
                raise ValueError("expected a known kind of line")
