"""The server's journal of secure rounds, kept beside its checkpoints.

Protocol rounds are numbered by themselves, because a training round may need several: a number is
written here before it is used, so that none is ever used twice. A survivor set is written before
anybody is asked to sign it: should the result be lost, the training round can be summed again over
these very sites, which is all that they will still agree to. The transcript is written before the
result goes out, because sites compare the next round's offer with it. A site that was proven guilty
is written down with the proof, and is never asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.round.exclusions import Exclusion
from phoenix_secure.journal import Journal, create_file, kind_codec
from protocol import Proof

__all__ = ["SecureJournal"]

_NO_TRANSCRIPT = bytes(32)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reserved:
    round: int
    training_round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Survivors:
    round: int
    training_round: int
    survivors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _GivenUp:
    training_round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    round: int
    training_round: int
    transcript: bytes


_Record = _Reserved | _Survivors | _GivenUp | _Result | Exclusion
_CODEC = kind_codec(
    {
        "reserved": _Reserved,
        "survivors": _Survivors,
        "given-up": _GivenUp,
        "result": _Result,
        "excluded": Exclusion,
    }
)


class SecureJournal:
    """The file at ``path``; one server process at a time (the run folder's lock sees to it)."""

    def __init__(self, path: Path) -> None:
        self._journal: Journal[_Record] = Journal(path, _CODEC, follow=self._follow)
        self._last_round = 0
        self._previous = _NO_TRANSCRIPT
        self._survivors: dict[int, tuple[str, ...]] = {}
        self._given_up: set[int] = set()
        self._excluded: dict[str, Exclusion] = {}
        self._journal.read_new()

    @classmethod
    def create(cls, path: Path) -> SecureJournal:
        """The empty journal of a new run."""
        create_file(path)
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

    @property
    def excluded(self) -> dict[str, Exclusion]:
        """Sites that broke the protocol under their own signature."""
        return dict(self._excluded)

    def record_excluded(self, training_round: int, *, proof: Proof) -> None:
        """For good, with the signed messages that prove it."""
        with self._journal.caught_up():
            if proof.culprit not in self._excluded:
                self._journal.append(Exclusion.of(proof, training_round=training_round))

    def reserve(self, training_round: int) -> int:
        """The next protocol round, for a new sum of ``training_round``.

        Raises:     TrainingError for a round that was given up.
        """
        with self._journal.caught_up():
            if training_round in self._given_up:
                raise TrainingError(
                    f"round {training_round} was given up: resume with --skip-round to go past it"
                )
            number = self._last_round + 1
            self._journal.append(_Reserved(round=number, training_round=training_round))
            return number

    def record_survivors(self, training_round: int, *, survivors: tuple[str, ...]) -> None:
        """Before the set goes out to be signed."""
        with self._journal.caught_up():
            if training_round not in self._survivors:
                self._journal.append(
                    _Survivors(
                        round=self._last_round, training_round=training_round, survivors=survivors
                    )
                )

    def record_given_up(self, training_round: int) -> None:
        """Before the checkpoint that goes past the round."""
        with self._journal.caught_up():
            if training_round not in self._given_up:
                self._journal.append(_GivenUp(training_round=training_round))

    def record_result(self, training_round: int, *, transcript: bytes) -> None:
        """Before the result goes out."""
        with self._journal.caught_up():
            self._journal.append(
                _Result(
                    round=self._last_round, training_round=training_round, transcript=transcript
                )
            )

    def _follow(self, record: _Record) -> None:
        match record:
            case _Reserved():
                self._last_round = record.round
            case _Survivors():
                self._survivors.setdefault(record.training_round, record.survivors)
            case _GivenUp():
                self._given_up.add(record.training_round)
            case Exclusion():
                self._excluded.setdefault(record.site, record)
            case _Result():
                self._previous = record.transcript
