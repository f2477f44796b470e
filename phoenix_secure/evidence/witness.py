"""A site as a witness: it signs the heads that it was shown, and keeps them.

A server that later shows another history cannot prove that it grew out of a head that the site
kept: the site refuses, and both signed heads are proof of the fork. A head names the plan that it
belongs to; under one plan the site signs no head of another.

Each line of the site's file is ``{"head", "signature", "site"}``: the head, the server's signature
over it, and the site's own, so that a reader can tell who kept it. Version 0.1.0 wrote no ``site``.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import PhoenixError
from phoenix_secure.evidence.canonical import canonical, parse_canonical
from phoenix_secure.evidence.head import TreeHead
from phoenix_secure.evidence.merkle import verify_consistency
from phoenix_secure.files import append_line, storage_errors
from protocol import Identity
from protocol.identity import MAX_SIGNATURE_SIZE

__all__ = ["Forked", "ShownHead", "Witness", "WitnessReply", "read_kept"]

_MAX_BYTES = 1 << 20
_MAX_PROOF = 128


class Forked(PhoenixError):  # noqa: N818
    """The server showed a history that contradicts a head which it signed before."""

    exit_code = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownHead:
    """The server's message: a signed head, and the proof that it contains ``old_size``.

    ``old_size`` 0 stands for no proof, for a site that has seen nothing yet.
    """

    head: TreeHead
    signature: bytes
    old_size: int
    proof: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        return canonical(
            {
                "head": self.head.to_dict(),
                "signature": self.signature.hex(),
                "old_size": self.old_size,
                "proof": [step.hex() for step in self.proof],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ShownHead:
        """Read what ``to_bytes`` made.

        Raises:     ValueError.
        """
        value = _object(data, {"head", "signature", "old_size", "proof"})
        if type(value["old_size"]) is not int or not isinstance(value["proof"], list):
            raise ValueError("expected old_size and proof")
        if len(value["proof"]) > _MAX_PROOF:
            raise ValueError("the proof is too long")
        return cls(
            head=TreeHead.from_dict(value["head"]),
            signature=_hex(value["signature"]),
            old_size=value["old_size"],
            proof=tuple(_hex(step) for step in value["proof"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WitnessReply:
    """The site's signature over the head; or, where the proof began elsewhere, the size it kept."""

    signature: bytes | None
    kept_size: int

    def to_bytes(self) -> bytes:
        signature = None if self.signature is None else base64.b64encode(self.signature).decode()
        return canonical({"signature": signature, "kept_size": self.kept_size})

    @classmethod
    def from_bytes(cls, data: bytes) -> WitnessReply:
        """Read what ``to_bytes`` made.

        Raises:     ValueError.
        """
        value = _object(data, {"signature", "kept_size"})
        signature = value["signature"]
        if type(value["kept_size"]) is not int or not 0 <= value["kept_size"] < 1 << 48:
            raise ValueError("expected kept_size")
        if signature is not None:
            signature = base64.b64decode(str(signature), validate=True)
        return cls(signature=signature, kept_size=value["kept_size"])


class Witness:
    """One site's memory of the one ledger of ``plan``, in the file ``path``.

    federation    id of the roster that the site pinned
    plan          SHA-256 of what the site agreed to, in hexadecimal

    Raises:     Forked when the file itself is not as this class wrote it.
    """

    def __init__(
        self, path: Path, *, identity: Identity, server_key: bytes, federation: str, plan: str
    ) -> None:
        self._path = path
        self._identity = identity
        self._server_key = server_key
        self._federation = federation
        self._plan = plan
        _drop_torn_line(path)
        kept = read_kept(path, server_key=server_key, site_key=identity.public_key)
        self._kept: TreeHead | None = kept[-1] if kept else None

    @property
    def kept(self) -> TreeHead | None:
        """The newest head seen."""
        return self._kept

    def handle(self, data: bytes) -> bytes:
        """Answer a ``ShownHead``: sign it once it is on this site's disk.

        Raises:     ValueError for malformed bytes, Forked for a history that is not the kept one.
        """
        shown = ShownHead.from_bytes(data)
        if not shown.head.is_signed(shown.signature, by=self._server_key):
            raise Forked("the tree head is not signed by the pinned server key")
        self._check_plan(shown.head)
        if self._kept is None and shown.old_size != 0:
            return WitnessReply(signature=None, kept_size=0).to_bytes()
        if self._kept is not None:
            self._check_same_ledger(self._kept, shown.head)
            if shown.head != self._kept:
                if shown.old_size != self._kept.size:
                    return WitnessReply(signature=None, kept_size=self._kept.size).to_bytes()
                self._check_growth(self._kept, shown)
        signature = shown.head.sign(self._identity)
        if shown.head != self._kept:
            line = {
                "head": shown.head.to_dict(),
                "signature": shown.signature.hex(),
                "site": signature.hex(),
            }
            append_line(self._path, canonical(line).decode())
            self._kept = shown.head
        return WitnessReply(signature=signature, kept_size=shown.head.size).to_bytes()

    def _check_plan(self, head: TreeHead) -> None:
        """Signatures under this plan must say nothing about another."""
        if head.scope is None:
            # A run that version 0.1.0 began goes on; none begins so.
            if self._kept is None or self._kept.scope is not None:
                raise Forked("the server's tree head names no plan: the server must be updated")
            return
        if (head.scope.federation, head.scope.plan) != (self._federation, self._plan):
            raise Forked(
                f"the server shows a history of plan {head.scope.plan[:16]} of "
                f"{head.scope.federation}, asked under plan {self._plan[:16]}"
            )

    @staticmethod
    def _check_same_ledger(kept: TreeHead, head: TreeHead) -> None:
        if head.ledger != kept.ledger:
            raise Forked(
                f"the server shows the ledger {head.ledger[:8]}, kept is {kept.ledger[:8]}"
            )
        if (head.size, head.round) < (kept.size, kept.round) or (
            head.size == kept.size and head != kept
        ):
            raise Forked(
                f"the server shows {head.size} entries, and signed {kept.size} others before"
            )

    @staticmethod
    def _check_growth(kept: TreeHead, shown: ShownHead) -> None:
        if not verify_consistency(
            old_size=kept.size,
            old_root=bytes.fromhex(kept.root),
            size=shown.head.size,
            root=bytes.fromhex(shown.head.root),
            proof=shown.proof,
        ):
            raise Forked(
                f"the server's history of {shown.head.size} entries does not contain the "
                f"{kept.size} that it signed before"
            )


def read_kept(path: Path, *, server_key: bytes, site_key: bytes | None) -> list[TreeHead]:
    """The heads in a witness's file, oldest first; a line cut by a crash is left out.

    site_key    of the site whose file it is; None where nobody pinned one

    Raises:     Forked when a whole line is not a head that the server signed, and the site (heads
                of version 0.1.0 alone carry no signature of the site).
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    heads: list[TreeHead] = []
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            value = parse_canonical(line)
            head, signature = TreeHead.from_dict(value["head"]), _hex(value["signature"])
            is_old = head.scope is None and "site" not in value
            own = b"" if is_old else _hex(value["site"])
            if set(value) != {"head", "signature"} | (set() if is_old else {"site"}):
                raise ValueError("expected head, signature and site")
        except (ValueError, KeyError, TypeError) as error:
            raise Forked(f"{path}, line {number} is damaged: restore it from a copy") from error
        if not head.is_signed(signature, by=server_key):
            raise Forked(f"{path}, line {number} is not signed by the server's key")
        if not is_old and site_key is not None and not head.is_signed(own, by=site_key):
            raise Forked(f"{path}, line {number} is not signed by the key of the site that kept it")
        heads.append(head)
    return heads


def _drop_torn_line(path: Path) -> None:
    """Drop a last line that a crash cut short: nothing was signed for it, and the next line must
    not be appended to it."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        with storage_errors(path):
            os.truncate(path, content.rfind(b"\n") + 1)


def _object(data: bytes, keys: set[str]) -> dict[str, Any]:
    if len(data) > _MAX_BYTES:
        raise ValueError("the message is too long")
    value = parse_canonical(data)
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"expected {sorted(keys)}")
    return value


def _hex(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > 2 * MAX_SIGNATURE_SIZE or text != text.lower():
        raise ValueError("expected hexadecimal digits")
    return bytes.fromhex(text)
