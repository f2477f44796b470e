"""Changes between two rosters of one federation, as its owner states and signs them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocol.encoding import Reader, encode, encode_text

__all__ = ["MAX_CHANGE_SIZE", "MAX_REASON", "ChangeKind", "RosterChange"]

MAX_REASON = 200  # characters
_MAX_REASON_SIZE = 4 * MAX_REASON
MAX_CHANGE_SIZE = 1024


class ChangeKind(Enum):
    """What happened to one party; the value is the text shown to people."""

    # A party that no roster held before, or that was revoked and comes with other keys.
    ADDED = "added"
    # The same party with other keys: the ones before never count again.
    ROTATED = "rotated"
    # Left out until it is resumed with the same key.
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    # Left out for good: its key never counts again.
    REVOKED = "revoked"

    @property
    def retires_key(self) -> bool:
        """Whether the key before never counts again."""
        return self in (ChangeKind.ROTATED, ChangeKind.REVOKED)


_KINDS = {kind.value: kind for kind in ChangeKind}


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterChange:
    """One party's change, with the owner's reason in plain text (it may be empty).

    Raises:     ValueError for a bad id, or a reason that is too long or not printable.
    """

    kind: ChangeKind
    party: str
    reason: str = ""

    def __post_init__(self) -> None:
        encode_text(self.party)
        if len(self.reason) > MAX_REASON or not self.reason.isprintable():
            raise ValueError(f"expected a reason of at most {MAX_REASON} printable characters")

    def encode(self) -> bytes:
        """The canonical form."""
        return encode([encode_text(self.kind.value), encode_text(self.party), self.reason.encode()])

    @classmethod
    def decode(cls, data: bytes | memoryview, *, peer: str) -> RosterChange:
        """Read what ``encode`` made.

        Raises:     RemoteProtocolError naming ``peer``.
        """
        reader = Reader(data, peer=peer)
        kind = _KINDS.get(reader.text("kind of change"))
        party = reader.text("changed party")
        reason = bytes(reader.view("reason", max_size=_MAX_REASON_SIZE))
        reader.finish()
        if kind is None:
            raise reader.error("kind of change: unknown")
        try:
            return cls(kind=kind, party=party, reason=reason.decode("utf-8"))
        except ValueError as error:
            raise reader.error("reason: not printable text") from error

    def __str__(self) -> str:
        return f"{self.party} {self.kind.value}" + (f" ({self.reason})" if self.reason else "")
