"""The one interface of every engine: send each site some bytes, gather what comes back."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["SMALL_REPLY_BYTES", "Engine", "Failure", "FailureCode", "OnReply", "Reply"]

# Enough for a code, a signature or a short list: what a stage may be answered with that says
# nothing else. A stage whose answers are larger states how large.
SMALL_REPLY_BYTES = 64 << 10


class FailureCode(enum.StrEnum):
    """Why a site's answer is missing. All that a failing site ever says is one of these."""

    NO_REPLY = "no-reply"  # nothing came before the stage closed
    UNREACHABLE = "unreachable"  # the network says that the site is gone
    MALFORMED = "malformed"  # an answer came that cannot be read
    REFUSED = "refused"  # the site's own policy forbids the request
    DIVERGED = "diverged"  # the site's loss became NaN or infinite
    BEHIND = "behind"  # the site was away, and has no proof of the model offered
    ANOTHER_MODEL = "another-model"  # not the one that the site computed from the sums
    BUDGET = "budget"  # the site's privacy budget allows no further release
    CANCELLED = "cancelled"  # the user stopped the run
    ERROR = "error"  # anything else; the details stay in the site's own log

    @property
    def is_refusal(self) -> bool:
        """Whether the site understood the request and will not do it."""
        return self in (FailureCode.REFUSED, FailureCode.BEHIND, FailureCode.ANOTHER_MODEL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The bytes that a site answered with."""

    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """No usable answer from a site."""

    code: FailureCode


# Takes one usable answer as it comes; a Failure in return says that it was not usable after all.
OnReply = Callable[[str, Reply], Failure | None]


class Engine(Protocol):
    """Carries a stage to the sites and their answers back."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that can be reached now, sorted."""
        ...

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
        max_reply_bytes: int | None = None,
    ) -> dict[str, Reply | Failure]:
        """Deliver ``requests`` and wait.

        ``max_reply_bytes`` bounds one answer of this stage; None stands for the engine's own
        limit, ``SMALL_REPLY_BYTES`` unless it was made with another.

        ``on_reply(site, reply)`` takes each answer as it comes, so that large ones need not lie
        in memory until the stage closes. It runs in the calling thread, once for a site; what it
        raises ends the exchange.

        Guarantee:  an answer above the limit is MALFORMED, and no more of it than the limit was
                    kept anywhere. One entry for each site asked. Returns as soon as all have
                    answered; or ``grace_s`` after ``quorum`` sites did; or at ``deadline_s``.
                    An answer that comes later is never returned by a later call.
                    With ``on_reply`` the entry of an answer that it took is an empty reply; one
                    that it turned into a Failure does not count towards the quorum.
        """
        ...

    def close(self) -> None:
        """Stop the work under way and release threads and connections."""
        ...
