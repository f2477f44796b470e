"""What the two kinds of session share: the table of legal moves, and the guard against copies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.errors import AbortReason, LocalProtocolError, SessionAborted
from protocol.proofs import Proof
from protocol.secrecy import NoCopies

__all__ = ["Aborted", "Move", "Session", "State"]


class State(NoCopies):
    """Base of all states. Each is a frozen dataclass with only what the next step needs."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Aborted(State):
    """Terminal: only the reason is left."""

    reason: AbortReason
    detail: str
    culprits: tuple[str, ...]
    retry_allowed: bool
    proofs: tuple[Proof, ...] = ()

    @classmethod
    def by(cls, error: SessionAborted) -> Aborted:
        """The state after ``error``."""
        return cls(
            reason=error.reason,
            detail=error.detail,
            culprits=error.culprits,
            retry_allowed=error.retry_allowed,
            proofs=error.proofs,
        )

    def error(self) -> SessionAborted:
        """What every further call on the session raises."""
        return SessionAborted(
            self.reason,
            self.detail,
            culprits=self.culprits,
            proofs=self.proofs,
            retry_allowed=self.retry_allowed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One row of a transition table: how a message or call is handled, and where it may lead."""

    handler: Any
    to: tuple[type[State], ...]


class Session(NoCopies):
    """A state, and the rule that only the process that made the session may use it."""

    __slots__ = ("_pid", "_state", "_table")

    def __init__(self, state: State, *, table: Mapping[tuple[type[State], str], Move]) -> None:
        self._state = state
        self._table = table
        self._pid = os.getpid()

    @property
    def state(self) -> str:
        """The name of the present state."""
        return type(self._state).__name__

    @property
    def is_over(self) -> bool:
        """Whether no message or call can change the session any more."""
        return not any(state is type(self._state) for state, _ in self._table)

    def abort(self) -> None:
        """Give up: drop every secret. Harmless in a session that is over."""
        if not self.is_over:
            self._state = Aborted(
                reason=AbortReason.CANCELLED, detail="", culprits=(), retry_allowed=False
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state}>"

    def _guard(self) -> None:
        """Refuse use in a forked child: two copies would reuse one mask for two inputs."""
        if os.getpid() != self._pid:
            raise LocalProtocolError(
                "this session was copied by fork(): make a new session in the child process"
            )
        if isinstance(self._state, Aborted):
            raise self._state.error()

    def _move(self, key: str) -> Move | None:
        return self._table.get((type(self._state), key))

    def _enter(self, state: State, move: Move) -> None:
        if not isinstance(state, move.to):
            raise AssertionError(f"the table does not allow {type(state).__name__} here")
        self._state = state
