"""What a session tells its driver, beside the bytes to send. Nothing in an event is secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocol.errors import AbortReason
from protocol.masks import Words
from protocol.spec import RoundSpec

__all__ = [
    "AttemptEnded",
    "Event",
    "IgnoreReason",
    "InputMasked",
    "KeysAgreed",
    "MessageIgnored",
    "RoundCompleted",
    "RoundFinished",
    "RoundOffered",
    "SharesRevealed",
    "StageClosed",
    "SurvivorsSigned",
]


class IgnoreReason(Enum):
    """Why a well-formed, correctly signed message changed nothing."""

    # The network delivered the same message twice.
    DUPLICATE = "duplicate"
    # It belongs to a stage that was closed without it.
    LATE = "late"


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageIgnored:
    """``peer``'s message had no effect."""

    peer: str
    reason: IgnoreReason


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundOffered:
    """Site: the offer passed the policy; call ``accept_model`` with the model's bytes."""

    spec: RoundSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysAgreed:
    """Site: these sites (U1) take part."""

    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputMasked:
    """Site: the masked input is on its way; the input itself is gone from the session."""

    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SurvivorsSigned:
    """Site: it signed that the sum is over these sites (U3). Privacy loss is spent from here on."""

    survivors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SharesRevealed:
    """Site: its shares are out; the session holds no secret any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundFinished:
    """Site: the server's signed result; ``transcript_hash`` is the next round's ``previous``."""

    survivors: tuple[str, ...]
    sum_digest: bytes
    transcript_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEnded:
    """Site: it sent a complaint and left this attempt."""

    reason: AbortReason
    culprit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageClosed:
    """Server: who answered in time, and who is out from here on."""

    stage: str
    answered: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoundCompleted:
    """Server: the exact sum over ``survivors``, and nothing else.

    Shape:      ``words`` (num_words,) uint32 or uint16 modulo 2^b: decode with
                ``fixed_point.FixedPoint.decode_sum``; ``extra`` the sums of the extra words as
                signed integers.
    """

    survivors: tuple[str, ...]
    words: Words
    extra: tuple[int, ...]
    sum_digest: bytes
    transcript_hash: bytes


Event = (
    MessageIgnored
    | RoundOffered
    | KeysAgreed
    | InputMasked
    | SurvivorsSigned
    | SharesRevealed
    | RoundFinished
    | AttemptEnded
    | StageClosed
    | RoundCompleted
)
