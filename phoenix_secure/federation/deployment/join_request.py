"""Join requests: how a party tells the federation's owner its public keys, made where they live.

::

    request  = encode(body, identity's signature, node key's signature or nothing)
    body     = encode(label, federation, role, party, suite, identity key, signing request of the
                      TLS key, node key or nothing, host or nothing, port)

of a site that renews its keys and has those of before:

    request  = encode(body, as above, earlier identity's signature)
    body     = encode(other label, as above, earlier identity key)

Each key proves that its holder made this request: the identity and the node's key sign the body,
the TLS key its signing request. So nobody can register another's key as its own, and no part can be
exchanged on the way. That the request is *clinic's* nothing here can prove; the fingerprint that
the clinic reads by telephone does. An earlier key that signed as well says that whoever asks has
it: the clinic, or its thief.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from phoenix_secure.federation.deployment import signing_requests
from phoenix_secure.federation.deployment.carried_files import open_carried
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.hosts import canonical_host
from phoenix_secure.federation.deployment.party_keys import (
    NODE_SIZE,
    ServerKeys,
    SiteKeys,
    node_point,
    parse_node,
)
from phoenix_secure.federation.deployment.signing_requests import (
    make_signing_request,
    open_signing_request,
)
from protocol import SERVER, Identity
from protocol.encoding import Reader, encode, encode_text, encode_uint
from protocol.identity import MAX_SIGNATURE_SIZE, key_size, signature_size, verify_signature
from protocol.suite import Suite

__all__ = ["MAX_REQUEST_SIZE", "JoinRequest", "read_request", "server_request", "site_request"]

MAX_REQUEST_SIZE = 16 << 10
_MAX_HOST = 253
_MAX_NODE_SIGNATURE = 104  # DER
_PEER = "join request"

# One label for each use of a key.
_LABEL = b"phoenix-secure/join-request/v1"
_RENEWAL_LABEL = b"phoenix-secure/join-request/renewal/v1"
_CONTINUITY_LABEL = b"phoenix-secure/join-request/continuity/v1"
_NODE_LABEL = b"phoenix-secure/join-request/node/v1"
_FINGERPRINT_LABEL = b"phoenix-secure/join-request/fingerprint/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinRequest:
    """The public keys of one party that wants to take part, all of which signed.

    party          a site's name, or ``SERVER``
    tls_request    signing request of the TLS key (DER)
    node_key       of a site's SuperNode, as an uncompressed point; empty for the server
    host, port     where the server is reached; empty and 0 for a site
    earlier_key    identity key that a site had before and signed with; empty: none
    """

    federation: str
    party: str
    suite: Suite
    identity_key: bytes
    tls_request: bytes
    node_key: bytes = b""
    host: str = ""
    port: int = 0
    earlier_key: bytes = b""
    body: bytes = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def is_server(self) -> bool:
        """Whether the server asks, and not a site."""
        return self.party == SERVER

    @property
    def tls_key(self) -> ec.EllipticCurvePublicKey:
        """The TLS key to be certified."""
        return open_signing_request(
            self.tls_request,
            party=self.party,
            federation=self.federation,
            host=self.host or None,
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """Of everything that the keys signed, and not of the signatures, which are not unique."""
        return Fingerprint.of(_FINGERPRINT_LABEL, self.body)

    @property
    def file_name(self) -> str:
        """The name under which it is written and sent."""
        return f"{self.party}.request"


def site_request(
    keys: SiteKeys, *, federation: str, suite: Suite, earlier: Identity | None = None
) -> JoinRequest:
    """The request of a site, signed with its keys, and with the identity that it had before."""
    party = keys.identity.id
    body = _body(
        federation=federation,
        party=party,
        suite=suite,
        identity_key=keys.identity.public_key,
        tls_request=make_signing_request(keys.door, party=party, federation=federation),
        node_key=node_point(keys.node.public_key()),
        earlier_key=b"" if earlier is None else earlier.public_key,
    )
    proof = keys.node.sign(_node_message(body), ec.ECDSA(hashes.SHA384()))
    continuity = [] if earlier is None else [earlier.sign(_continuity_message(body))]
    return parse_request(encode([body, keys.identity.sign(body), proof, *continuity]))


def server_request(
    keys: ServerKeys, *, federation: str, suite: Suite, host: str, port: int
) -> JoinRequest:
    """The request of a server that sites reach at ``host`` and ``port``, signed with its keys."""
    body = _body(
        federation=federation,
        party=SERVER,
        suite=suite,
        identity_key=keys.identity.public_key,
        tls_request=make_signing_request(keys.tls, party=SERVER, federation=federation, host=host),
        host=host,
        port=port,
    )
    return parse_request(encode([body, keys.identity.sign(body), b""]))


def read_request(path: Path) -> JoinRequest:
    """The request in the file ``path``, all of whose proofs hold.

    Raises:     ConfigError naming the file, what is wrong, and what to do.
    """
    return open_carried(
        path,
        parse_request,
        what="a join request",
        max_size=MAX_REQUEST_SIZE,
        wrong="no join request that its sender's keys signed",
        fix="ask its sender for the file that `site init` or `server init` wrote",
    )


def parse_request(data: bytes) -> JoinRequest:
    """The request in ``data``, all of whose proofs hold.

    Raises:     RemoteProtocolError or ValueError with what is wrong.
    """
    outer = Reader(data, peer=_PEER)
    body = bytes(outer.view("body", max_size=MAX_REQUEST_SIZE))
    signature = bytes(outer.view("signature", max_size=MAX_SIGNATURE_SIZE))
    proof = bytes(outer.view("node key's signature", max_size=_MAX_NODE_SIGNATURE))
    request = _parse_body(body, data)
    if request.earlier_key:
        continuity = bytes(outer.view("earlier key's signature", max_size=MAX_SIGNATURE_SIZE))
        if len(continuity) != signature_size(request.suite) or not verify_signature(
            request.earlier_key, signature=continuity, message=_continuity_message(body)
        ):
            raise ValueError("the earlier identity key in it did not sign it")
    outer.finish()
    if len(signature) != signature_size(request.suite) or not verify_signature(
        request.identity_key, signature=signature, message=body
    ):
        raise ValueError("the identity key in it did not sign it")
    if request.is_server:
        if proof:
            raise ValueError("a server has no node key")
    else:
        _verify_node(request.node_key, signature=proof, body=body)
    _ = request.tls_key  # refused here and not when it is certified
    return request


def _parse_body(body: bytes, data: bytes) -> JoinRequest:
    reader = Reader(body, peer=_PEER)
    label = bytes(reader.view("label", max_size=64))
    if label not in (_LABEL, _RENEWAL_LABEL):
        raise reader.error("of another kind or version")
    federation = reader.text("federation")
    role, party = reader.text("role"), reader.text("party")
    if role not in ("site", SERVER) or (role == SERVER) != (party == SERVER):
        raise reader.error("role: neither a site nor the server")
    suites = {suite.value: suite for suite in Suite}
    suite = suites.get(reader.text("suite"))
    if suite is None:
        raise reader.error("suite: unknown")
    identity_key = reader.exact("identity key", size=key_size(suite))
    tls_request = bytes(reader.view("signing request", max_size=signing_requests.MAX_SIZE))
    node_key = reader.exact("node key", size=0 if role == SERVER else NODE_SIZE)
    host = bytes(reader.view("host", max_size=_MAX_HOST)).decode("ascii", errors="replace")
    port = reader.uint("port", max_value=65_535)
    is_renewal = label == _RENEWAL_LABEL
    earlier_key = reader.exact("earlier key", size=key_size(suite)) if is_renewal else b""
    reader.finish()
    if is_renewal and (role == SERVER or earlier_key == identity_key):
        raise reader.error("earlier key: of a site that has another one now")
    if (role == SERVER) != bool(host) or (role == SERVER) != bool(port):
        raise reader.error("host and port: of a server alone")
    if host and canonical_host(host) != host:
        raise reader.error("host: not in its canonical form")
    return JoinRequest(
        federation=federation,
        party=party,
        suite=suite,
        identity_key=identity_key,
        tls_request=tls_request,
        node_key=node_key,
        host=host,
        port=port,
        earlier_key=earlier_key,
        body=body,
        data=data,
    )


def _body(
    *,
    federation: str,
    party: str,
    suite: Suite,
    identity_key: bytes,
    tls_request: bytes,
    node_key: bytes = b"",
    host: str = "",
    port: int = 0,
    earlier_key: bytes = b"",
) -> bytes:
    return encode(
        [
            _RENEWAL_LABEL if earlier_key else _LABEL,
            encode_text(federation),
            encode_text(SERVER if party == SERVER else "site"),
            encode_text(party),
            encode_text(suite.value),
            identity_key,
            tls_request,
            node_key,
            host.encode("ascii"),
            encode_uint(port),
            *([earlier_key] if earlier_key else []),
        ]
    )


def _continuity_message(body: bytes) -> bytes:
    return encode([_CONTINUITY_LABEL, hashlib.sha256(body).digest()])


def _node_message(body: bytes) -> bytes:
    return encode([_NODE_LABEL, hashlib.sha256(body).digest()])


def _verify_node(point: bytes, *, signature: bytes, body: bytes) -> None:
    try:
        parse_node(point).verify(signature, _node_message(body), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError) as error:
        raise ValueError("the node key in it did not sign it") from error
