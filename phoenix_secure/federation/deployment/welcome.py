"""Welcomes: what the federation's owner gives each party that it admitted; nothing in it is secret.

::

    welcome  = encode(body, owner's signature)
    body     = encode(label, owner's key, federation, party, roster, authority's certificate,
                      party's certificate, host, port, folder or nothing, nodes)
    roster   = all rosters of the federation (``protocol.roster_chain``)

The signature is by the key that signed the roster. A welcome proves that one owner made all of it;
whose key that is, a party learns from the words that the owner reads by telephone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.carried_files import open_carried, signed_parts
from phoenix_secure.federation.deployment.deployment import Deployment
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.party_folders import Papers
from phoenix_secure.federation.deployment.party_keys import NODE_SIZE, node_line, parse_node
from protocol import SERVER, Identity, RemoteProtocolError, Roster, RosterChain
from protocol.encoding import Reader, encode, encode_text, encode_uint
from protocol.identity import (
    key_size,
    signature_size,
    suite_of_key,
    verify_signature,
)
from protocol.roster_chain import MAX_CHAIN_SIZE
from protocol.suite import Suite

__all__ = ["MAX_WELCOME_SIZE", "Welcome", "owner_fingerprint", "read_welcome"]

# All rosters, and the nodes of a thousand sites.
MAX_WELCOME_SIZE = MAX_CHAIN_SIZE + (4 << 20)
_MAX_CERTIFICATE = 4096
_MAX_FOLDER = 4096
_MAX_HOST = 253
_MAX_NODE = 64 + NODE_SIZE + 8
_PEER = "welcome"

_LABEL = b"phoenix-secure/welcome/v1"
_OWNER_LABEL = b"phoenix-secure/owner/fingerprint/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    """What one party is told by the federation's owner.

    roster           all of them, each with the owner's signature
    ca_certificate   of the authority; ``certificate`` is the party's, both PEM
    folder           that messages travel in; None: the network
    nodes            site -> its node's key (uncompressed point): of all sites for the server, of
                     itself for a site
    """

    owner_key: bytes
    federation: str
    party: str
    roster: bytes
    ca_certificate: bytes
    certificate: bytes
    host: str
    port: int
    folder: str | None
    nodes: Mapping[str, bytes]

    def sign(self, owner: Identity) -> bytes:
        """The welcome as a file, signed by the federation's owner."""
        body = self._body()
        return encode([body, owner.sign(body)])

    @property
    def file_name(self) -> str:
        """The name under which it is written and sent."""
        return f"{self.party}.welcome"

    @property
    def owner(self) -> Fingerprint:
        """The fingerprint of the owner's key in this federation."""
        return owner_fingerprint(self.federation, self.owner_key)

    def rosters(self) -> RosterChain:
        """All rosters, if the owner's key signed them.

        Raises:     ConfigError.
        """
        try:
            return RosterChain.load(self.roster, owner_key=self.owner_key)
        except RemoteProtocolError as error:
            raise ConfigError(
                f"the roster in the welcome is not signed by the owner's key ({error.detail}): ask "
                "the owner for another welcome"
            ) from error

    def deployment(self, roster: Roster, *, superlink_port: int) -> Deployment:
        """Who takes part, and where they meet.

        Raises:     ConfigError for what no federation could use.
        """
        return Deployment(
            federation=self.federation,
            sites=tuple(site for site, _ in roster.members),
            host=self.host,
            port=self.port,
            superlink_port=superlink_port,
            suite=roster.suite.value,
            folder=self.folder,
        )

    def papers(self) -> Papers:
        """What the party's folder gets of it."""
        is_server = self.party == SERVER
        nodes = {site: node_line(parse_node(point)) for site, point in self.nodes.items()}
        return Papers(
            ca_certificate=self.ca_certificate,
            certificate=self.certificate,
            roster=self.roster,
            owner_key=self.owner_key,
            nodes=nodes if is_server else {},
        )

    def _body(self) -> bytes:
        nodes = [encode([encode_text(site), key]) for site, key in sorted(self.nodes.items())]
        return encode(
            [
                _LABEL,
                self.owner_key,
                encode_text(self.federation),
                encode_text(self.party),
                self.roster,
                self.ca_certificate,
                self.certificate,
                self.host.encode("ascii"),
                encode_uint(self.port),
                (self.folder or "").encode(),
                encode(nodes),
            ]
        )


def owner_fingerprint(federation: str, owner_key: bytes) -> Fingerprint:
    """The fingerprint of the owner's key in one federation, which each party compares."""
    return Fingerprint.of(_OWNER_LABEL, encode_text(federation), owner_key)


def read_welcome(path: Path) -> Welcome:
    """The welcome in the file ``path``, signed by the owner's key that it names.

    Raises:     ConfigError naming the file, what is wrong, and what to do.
    """
    return open_carried(
        path,
        parse_welcome,
        what="a welcome",
        max_size=MAX_WELCOME_SIZE,
        wrong="no welcome",
        fix="ask the federation's owner for the file that `deploy sign` wrote",
    )


def parse_welcome(data: bytes) -> Welcome:
    """The welcome in ``data``, signed by the owner's key that it names.

    Raises:     RemoteProtocolError or ValueError with what is wrong.
    """
    body, signature = signed_parts(data, peer=_PEER, max_size=MAX_WELCOME_SIZE)
    reader = Reader(body, peer=_PEER)
    if bytes(reader.view("label", max_size=64)) != _LABEL:
        raise reader.error("of another kind or version")
    owner_key = bytes(reader.view("owner's key", max_size=key_size(Suite.HYBRID_PQ)))
    suite = suite_of_key(owner_key)
    if suite is None or len(signature) != signature_size(suite):
        raise reader.error("owner's key: of no suite")
    if not verify_signature(owner_key, signature=signature, message=body):
        raise ValueError("the owner's key in it did not sign it")

    def node(entries: Reader) -> tuple[str, bytes]:
        entry = Reader(entries.view("node", max_size=_MAX_NODE), peer=_PEER)
        found = entry.text("node's site"), entry.exact("node's key", size=NODE_SIZE)
        entry.finish()
        return found

    federation, party = reader.text("federation"), reader.text("party")
    roster = bytes(reader.view("roster", max_size=MAX_WELCOME_SIZE))
    ca_certificate = bytes(reader.view("authority's certificate", max_size=_MAX_CERTIFICATE))
    certificate = bytes(reader.view("certificate", max_size=_MAX_CERTIFICATE))
    host = bytes(reader.view("host", max_size=_MAX_HOST)).decode("ascii", errors="replace")
    port = reader.uint("port", max_value=65_535)
    folder = bytes(reader.view("folder", max_size=_MAX_FOLDER)).decode("utf-8")
    nodes = reader.items("nodes", node, max_items=len(body), max_size=len(body))
    reader.finish()
    if [site for site, _ in nodes] != sorted({site for site, _ in nodes}):
        raise reader.error("nodes: not sorted by distinct sites")
    if not folder.isprintable():
        raise reader.error("folder: holds control characters")
    return Welcome(
        owner_key=owner_key,
        federation=federation,
        party=party,
        roster=roster,
        ca_certificate=ca_certificate,
        certificate=certificate,
        host=host,
        port=port,
        folder=folder or None,
        nodes=dict(nodes),
    )
