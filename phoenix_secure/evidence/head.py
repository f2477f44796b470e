"""A tree head: the ledger's size and root, which stand for every entry so far.

A head names the federation and the plan whose history it stands for, so that a signature given
under one plan says nothing about another. Heads of version 0.1.0 name neither; they are still read,
as heads without a scope.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Self

from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.evidence.dsse import pae
from phoenix_secure.evidence.merkle import HASH_SIZE
from protocol import Identity
from protocol.encoding import is_id
from protocol.identity import verify_signature

__all__ = ["HEAD_TYPE", "OLD_HEAD_TYPE", "Scope", "TreeHead"]

HEAD_TYPE = "application/vnd.phoenix-secure.tree-head.v2+json"
OLD_HEAD_TYPE = "application/vnd.phoenix-secure.tree-head+json"
_VERSION = 2
_LABEL = "phoenix-secure/ledger-id/v2"
_NONCE_SIZE = 16
_MAX_COUNT = 1 << 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The one run whose history a ledger tells.

    federation    id of the signed roster
    plan          SHA-256, in hexadecimal, of what the sites agreed to: the plan of a deployment,
                  the file of settings of a simulation
    nonce         32 hexadecimal digits; tells two runs of one plan apart
    """

    federation: str
    plan: str
    nonce: str

    def __post_init__(self) -> None:
        if not is_id(self.federation):
            raise ValueError("expected the federation's id")
        if not _is_hex(self.plan, size=HASH_SIZE):
            raise ValueError("expected the plan's SHA-256, 64 hexadecimal digits")
        if not _is_hex(self.nonce, size=_NONCE_SIZE):
            raise ValueError("expected a nonce of 32 hexadecimal digits")

    @classmethod
    def new(cls, *, federation: str, plan: str) -> Self:
        """The scope of a run that begins now."""
        return cls(federation=federation, plan=plan, nonce=secrets.token_hex(_NONCE_SIZE))

    @property
    def ledger(self) -> str:
        """The ledger's id: it follows from the scope, so that no other plan's ledger can have it.

        >>> first = Scope(federation="f", plan="00" * 32, nonce="00" * 16)
        >>> first.ledger == Scope(federation="f", plan="11" * 32, nonce="00" * 16).ledger
        False
        """
        fields = [_LABEL, self.federation, self.plan, self.nonce]
        return hashlib.sha256(canonical(fields)).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeHead:
    """``size`` entries of ``ledger`` hash to ``root`` (hexadecimal).

    Signed by the server (it will show this history to everybody) and by sites (it was shown to
    them): the same bytes, so that the two signatures can be laid side by side.

    scope    None for a head as version 0.1.0 made them
    round    the last training round that these entries begin, 0 before the first
    """

    ledger: str
    size: int
    root: str
    scope: Scope | None = None
    round: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.ledger, str) or not 1 <= len(self.ledger) <= 128:
            raise ValueError("expected the ledger's id, 1 to 128 characters")
        if type(self.size) is not int or not 0 <= self.size < _MAX_COUNT:
            raise ValueError("expected a size of 0 or more")
        if not _is_hex(self.root, size=HASH_SIZE):
            raise ValueError("expected a root of 64 hexadecimal digits")
        if type(self.round) is not int or not 0 <= self.round < _MAX_COUNT:
            raise ValueError("expected a round of 0 or more")
        if self.scope is None and self.round != 0:
            raise ValueError("expected no round in a head of version 0.1.0")
        if self.scope is not None and self.ledger != self.scope.ledger:
            raise ValueError("expected the ledger's id to follow from federation, plan and nonce")

    def to_dict(self) -> dict[str, Any]:
        counts = {"size": self.size, "root": self.root}
        if self.scope is None:
            return {"ledger": self.ledger, **counts}
        return {"version": _VERSION, **asdict(self.scope), "round": self.round, **counts}

    @classmethod
    def from_dict(cls, value: Any) -> TreeHead:
        """Read what ``to_dict`` made, also in version 0.1.0.

        Raises:     ValueError.
        """
        if not isinstance(value, dict):
            raise ValueError("expected a tree head")
        if set(value) == {"ledger", "size", "root"}:
            return cls(**value)
        names = {"version", "federation", "plan", "nonce", "round", "size", "root"}
        if set(value) != names or value["version"] != _VERSION:
            raise ValueError(f"expected a tree head of version {_VERSION}")
        scope = Scope(federation=value["federation"], plan=value["plan"], nonce=value["nonce"])
        return cls(
            ledger=scope.ledger,
            size=value["size"],
            root=value["root"],
            scope=scope,
            round=value["round"],
        )

    def message(self) -> bytes:
        """The bytes that are signed: the DSSE encoding of the head's canonical JSON."""
        kind = OLD_HEAD_TYPE if self.scope is None else HEAD_TYPE
        return pae(kind, canonical(self.to_dict()))

    def sign(self, identity: Identity) -> bytes:
        """The signature of ``identity`` under this head."""
        return identity.sign(self.message())

    def is_signed(self, signature: bytes, *, by: bytes) -> bool:
        """Whether the key ``by`` made ``signature`` over this head."""
        return verify_signature(by, signature=signature, message=self.message())


def _is_hex(text: Any, *, size: int) -> bool:
    return isinstance(text, str) and len(text) == 2 * size and set(text) <= set("0123456789abcdef")
