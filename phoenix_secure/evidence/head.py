"""A tree head: the ledger's size and root, which stand for every entry so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.evidence.dsse import pae
from phoenix_secure.evidence.merkle import HASH_SIZE
from protocol import Identity
from protocol.identity import verify_signature

__all__ = ["HEAD_TYPE", "TreeHead"]

HEAD_TYPE = "application/vnd.phoenix-secure.tree-head+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeHead:
    """``size`` entries of ``ledger`` hash to ``root`` (hexadecimal).

    Signed by the server (it will show this history to everybody) and by sites (it was shown to
    them): the same bytes, so that the two signatures can be laid side by side.
    """

    ledger: str
    size: int
    root: str

    def __post_init__(self) -> None:
        if not isinstance(self.ledger, str) or not 1 <= len(self.ledger) <= 128:
            raise ValueError("expected the ledger's id, 1 to 128 characters")
        if type(self.size) is not int or not 0 <= self.size < 1 << 48:
            raise ValueError("expected a size of 0 or more")
        if not isinstance(self.root, str) or len(self.root) != 2 * HASH_SIZE:
            raise ValueError("expected a root of 64 hexadecimal digits")
        if not set(self.root) <= set("0123456789abcdef"):
            raise ValueError("expected a root of 64 hexadecimal digits")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> TreeHead:
        """Read what ``to_dict`` made.

        Raises:     ValueError.
        """
        if not isinstance(value, dict) or set(value) != {"ledger", "size", "root"}:
            raise ValueError("expected ledger, size and root")
        return cls(**value)

    def message(self) -> bytes:
        """The bytes that are signed: the DSSE encoding of the head's canonical JSON."""
        return pae(HEAD_TYPE, canonical(self.to_dict()))

    def sign(self, identity: Identity) -> bytes:
        """64 bytes."""
        return identity.sign(self.message())

    def is_signed(self, signature: bytes, *, by: bytes) -> bool:
        """Whether the key ``by`` made ``signature`` over this head."""
        return verify_signature(by, signature=signature, message=self.message())
