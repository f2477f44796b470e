"""Parties that the federation's owner admitted: their requests, each under the owner's signature.

A file that somebody else put into the folder is no admission. Parties of one name or one key are
refused: one key under two names would let one party vote twice, or come in by another's door.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.carried_files import read_carried, signed_parts
from phoenix_secure.federation.deployment.join_request import (
    MAX_REQUEST_SIZE,
    JoinRequest,
    parse_request,
)
from phoenix_secure.files import write_bytes
from protocol import Identity, RemoteProtocolError, RosterChain
from protocol.encoding import encode
from protocol.identity import MAX_SIGNATURE_SIZE, verify_signature

__all__ = ["Admissions"]

MAX_SITES = 1000
_LABEL = b"phoenix-secure/admission/v1"
_MAX_SIZE = MAX_REQUEST_SIZE + MAX_SIGNATURE_SIZE + 8


class Admissions:
    """The folder ``admitted`` of the owner whose identity is ``owner``.

    chain   the rosters that are signed; None as long as none is
    """

    def __init__(self, folder: Path, *, owner: Identity, chain: RosterChain | None) -> None:
        self._folder = folder
        self._owner = owner
        self._chain = chain

    def all(self) -> list[JoinRequest]:
        """Every admitted request, sorted by party; the server's among them.

        Raises:     ConfigError for a file that this owner did not sign, or two that clash.
        """
        admitted = [self._read(path) for path in sorted(self._folder.glob("*.admission"))]
        self._require_distinct(admitted)
        return sorted(admitted, key=lambda request: request.party)

    def examine(self, request: JoinRequest, *, replaces: bool = False) -> bool:
        """Whether exactly this request is admitted.

        replaces   the owner says that it takes the place of an admitted party's keys

        Raises:     ConfigError when the request's name or one of its keys is an admitted party's
                    or the owner's, its key was revoked, or an earlier key signed it that is not the
                    party's; it names both parties and what to do.
        """
        admitted, party = self.all(), request.party
        if self._chain is not None and request.identity_key in self._chain.retired:
            raise ConfigError(
                f"the identity key in {party}'s request was revoked or replaced, and never counts "
                f"again: ask {party} to make new keys in a new folder"
            )
        if any(other.body == request.body for other in admitted):
            return True
        self._require_continuity(request)
        is_known = any(other.party == party for other in admitted)
        if replaces and not is_known:
            raise ConfigError(f"--replaces {party}: no party of that name is admitted")
        if is_known and not replaces:
            raise ConfigError(
                f"{party} is admitted with other keys: let the newcomer take another --name, or "
                f"say --replaces {party} if {party} itself made new keys"
            )
        others = [other for other in admitted if other.party != party]
        if len(others) > MAX_SITES:
            raise ConfigError(f"a federation has at most {MAX_SITES} sites: found a second one")
        self._require_distinct([*others, request])
        return False

    def add(self, request: JoinRequest) -> None:
        """Keep ``request``, which the owner confirmed, under the owner's signature."""
        signature = self._owner.sign(_message(request.data))
        write_bytes(self._path(request.party), encode([request.data, signature]))

    def _require_continuity(self, request: JoinRequest) -> None:
        """An earlier key that signed a request must be the one that its party has in the roster."""
        if not request.earlier_key:
            return
        party, chain = request.party, self._chain
        held = () if chain is None else (chain.current.key(party), chain.suspended.get(party))
        if request.earlier_key not in held:
            raise ConfigError(
                f"{party}'s request is signed by an earlier key that is not {party}'s in the "
                "roster in force: it is old, or another party's; ask for a new one (`site renew`)"
            )

    def _require_distinct(self, requests: list[JoinRequest]) -> None:
        holders = {self._owner.public_key: "the federation's owner"}
        for request in requests:
            for what, key in (
                ("identity key", request.identity_key),
                ("node key", request.node_key),
                ("TLS key", _tls_point(request)),
            ):
                if key and (other := holders.setdefault(key, request.party)) != request.party:
                    raise ConfigError(
                        f"{request.party} and {other} have one {what}: each party makes keys of "
                        "its own with `site init` or `server init`, in a folder of its own"
                    )

    def _read(self, path: Path) -> JoinRequest:
        content = read_carried(path, what="an admission", max_size=_MAX_SIZE)
        try:
            data, signature = signed_parts(content, peer="admission", max_size=MAX_REQUEST_SIZE)
            is_signed = verify_signature(
                self._owner.public_key, signature=signature, message=_message(data)
            )
            request = parse_request(data)
        except (RemoteProtocolError, ValueError):
            is_signed = False
        if not is_signed or path != self._path(request.party):
            raise ConfigError(
                f"{path} is no admission that this owner signed: delete it, and admit the party "
                "with `deploy admit`"
            )
        return request

    def _path(self, party: str) -> Path:
        return self._folder / f"{party}.admission"


def _tls_point(request: JoinRequest) -> bytes:
    return request.tls_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _message(request: bytes) -> bytes:
    return encode([_LABEL, request])
