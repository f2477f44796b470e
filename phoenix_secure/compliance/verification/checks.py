"""The outcome of one check, and of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from phoenix_secure.errors import PhoenixError

__all__ = ["Check", "Checks", "State"]


_HOSTILE = (AttributeError, ArithmeticError, RecursionError)


class State(StrEnum):
    """A check that was not made is never counted as one that holds."""

    HOLDS = "holds"
    FAILED = "failed"
    NOT_MADE = "not made"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check: its name, its result, and what to know about it."""

    name: str
    state: State
    detail: str = ""


@dataclass(kw_only=True, slots=True)
class Checks:
    """All checks of one verification, in order."""

    found: list[Check] = field(default_factory=list)

    def holds(self, name: str, detail: str = "") -> None:
        self.found.append(Check(name=name, state=State.HOLDS, detail=detail))

    def failed(self, name: str, detail: str) -> None:
        self.found.append(Check(name=name, state=State.FAILED, detail=detail))

    def not_made(self, name: str, detail: str) -> None:
        self.found.append(Check(name=name, state=State.NOT_MADE, detail=detail))

    def require(self, name: str, condition: bool, detail: str) -> bool:
        """Holds, or failed with ``detail``."""
        if condition:
            self.holds(name)
        else:
            self.failed(name, detail)
        return condition

    @contextmanager
    def catching(self, name: str) -> Iterator[None]:
        """Failed when the block raises what hostile or damaged files make it raise."""
        try:
            yield
        except (PhoenixError, ValueError, LookupError, TypeError, *_HOSTILE) as error:
            shown = str(error) if isinstance(error, PhoenixError) else "not of the expected form"
            self.failed(name, shown)

    @property
    def exit_code(self) -> int:
        """0 all checks hold; 5 one failed; 7 none failed, but not all were made."""
        states = {each.state for each in self.found}
        if State.FAILED in states:
            return 5
        return 7 if State.NOT_MADE in states else 0
