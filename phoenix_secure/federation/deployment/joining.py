"""How a party makes its own keys, asks to join, and joins once the federation's owner welcomes it.

The folder holds keys and ``PARTY.request`` at first. With a welcome that passes every check here,
and the owner's words, it becomes what ``site_folder`` and ``server_folder`` describe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.certificates import (
    check_certificate,
    server_alternatives,
    server_name,
)
from phoenix_secure.federation.deployment.deployment import Deployment, superlink_port_beside
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.join_request import (
    JoinRequest,
    read_request,
    server_request,
    site_request,
)
from phoenix_secure.federation.deployment.new_folder import new_folder
from phoenix_secure.federation.deployment.party_folders import complete_server, complete_site
from phoenix_secure.federation.deployment.party_keys import (
    ServerKeys,
    SiteKeys,
    node_point,
    read_identity,
    read_node_key,
    read_tls_key,
)
from phoenix_secure.federation.deployment.renewing import has_joined
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.welcome import Welcome, read_welcome
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.secret_files import check_private
from protocol import Roster
from protocol.suite import Suite

__all__ = ["Joining", "pending_request", "prepare_server", "prepare_site"]


def prepare_site(folder: Path, *, name: str, federation: str, suite: str) -> JoinRequest:
    """Make the keys of the site ``name`` in the new ``folder``, and its join request.

    Guarantee:  keys have mode 0600 from the first moment on, and no other file holds any part of
                them; when anything fails, nothing is left behind.
    Raises:     ConfigError for a name that cannot be or a folder in use; StorageError.
    """
    # It says in its own words which names, suites and ports can be.
    found = Deployment(federation=federation, sites=(name,), suite=suite)
    with new_folder(folder):
        keys = SiteKeys.generate(name, suite=Suite(suite))
        keys.write(folder)
        request = site_request(keys, federation=found.federation, suite=Suite(suite))
        write_bytes(folder / request.file_name, request.data)
    return request


def prepare_server(
    folder: Path, *, federation: str, host: str, port: int, suite: str
) -> JoinRequest:
    """Make the keys of a server that sites reach at ``host`` and ``port``, and its join request.

    Guarantee:  as for ``prepare_site``.
    Raises:     ConfigError for a name, host or port that cannot be, or a folder in use;
                StorageError.
    """
    found = Deployment(
        federation=federation,
        sites=("site",),
        host=host,
        port=port,
        superlink_port=superlink_port_beside(port),
        suite=suite,
    )
    with new_folder(folder):
        keys = ServerKeys.generate(suite=Suite(suite))
        keys.write(folder)
        request = server_request(
            keys, federation=federation, suite=Suite(suite), host=found.host, port=port
        )
        write_bytes(folder / request.file_name, request.data)
    return request


@dataclass(frozen=True, kw_only=True, slots=True)
class Joining:
    """A welcome that fits the keys in a folder; whose it is, ``complete`` is told.

    request   with which the party asked
    """

    folder: Path
    request: JoinRequest
    welcome: Welcome
    roster: Roster
    deployment: Deployment

    @classmethod
    def open(
        cls, folder: Path, welcome: Path, *, as_server: bool, superlink_port: int | None = None
    ) -> Joining:
        """Hold the welcome in a file against the keys in ``folder``; nothing is written.

        superlink_port   loopback port on the server; None: one that is not the Fleet proxy's

        Raises:     ConfigError naming the first thing that does not fit, and what to do.
        """
        request = _own_request(folder, as_server=as_server)
        found = read_welcome(welcome)
        if (found.federation, found.party) != (request.federation, request.party):
            raise ConfigError(
                f"{welcome} is for {found.party} of {found.federation}, and {folder} is of "
                f"{request.party} of {request.federation}: ask the owner for "
                f"{request.party}.welcome"
            )
        roster = found.rosters().current
        _check_roster(roster, request)
        _check_keys(folder, request)
        _check_nodes(found, roster, request)
        check_certificate(
            found.certificate,
            authority=found.ca_certificate,
            public=request.tls_key,
            name=server_name(request.federation) if as_server else request.party,
            alternatives=server_alternatives([request.host]) if as_server else None,
        )
        if as_server and (found.host, found.port) != (request.host, request.port):
            raise ConfigError(
                f"the welcome says that sites reach this server at {found.host}:{found.port}, and "
                f"its keys were made for {request.host}:{request.port}: agree with the owner"
            )
        deployment = found.deployment(
            roster, superlink_port=superlink_port or superlink_port_beside(found.port)
        )
        return cls(
            folder=folder, request=request, welcome=found, roster=roster, deployment=deployment
        )

    def complete(self, *, heard: str) -> Fingerprint:
        """Join, if ``heard`` are the words of the owner that signed the welcome.

        Returns the roster's fingerprint, which all parties compare.

        Guarantee:  without the right words nothing is written; the settings are written last, and
                    until then it can be done again.
        Raises:     ConfigError; StorageError.
        """
        self.welcome.owner.require(heard, whose="the federation's owner")
        papers = self.welcome.papers()
        if self.request.is_server:
            complete_server(self.folder, papers, deployment=self.deployment)
        else:
            complete_site(self.folder, papers, site=self.request.party, deployment=self.deployment)
        with storage_errors(self.folder):
            (self.folder / self.request.file_name).unlink()
        return Fingerprint(self.roster.hash)


def pending_request(folder: Path) -> JoinRequest | None:
    """The request in the folder of a party that has not joined yet; None in any other folder.

    Raises:     ConfigError for one that cannot be read.
    """
    found = sorted(folder.glob("*.request"))
    return None if has_joined(folder) or len(found) != 1 else read_request(found[0])


def _own_request(folder: Path, *, as_server: bool) -> JoinRequest:
    """The request that lies beside the keys it was made with."""
    what = "server" if as_server else "site"
    if has_joined(folder):
        raise ConfigError(
            f"{folder} has joined a federation already: make keys for another one with `{what} "
            "init` in a new folder"
        )
    found = sorted(folder.glob("*.request")) if folder.is_dir() else []
    if len(found) != 1:
        raise ConfigError(
            f"{folder} holds {len(found)} join requests in place of one: name the folder that "
            f"`phoenix-secure {what} init` made"
        )
    request = read_request(found[0])
    if request.is_server != as_server:
        other = "server" if request.is_server else "site"
        raise ConfigError(f"{folder} is of a {other}: use `phoenix-secure {other} join`")
    return request


def _check_roster(roster: Roster, request: JoinRequest) -> None:
    party, held = request.party, roster.key(request.party)
    if roster.federation_id != request.federation:
        raise ConfigError(
            f"the roster in the welcome is of the federation {roster.federation_id!r}: ask the "
            "owner for another welcome"
        )
    if held is None:
        raise ConfigError(f"{party} is not in the roster: ask the owner to admit its request")
    if held != request.identity_key:
        raise ConfigError(
            f"the roster holds another key than this folder's as that of {party}: somebody else "
            "may have joined in its place; compare the words of the request with the owner"
        )


def _check_keys(folder: Path, request: JoinRequest) -> None:
    """The keys in the folder are those that asked, and only this user can read them."""
    identity = read_identity(folder, request.party, suite=request.suite)
    check_private(folder / "task.secret")
    tls = read_tls_key(folder / ("server.key" if request.is_server else "door.key"))
    is_own = identity.public_key == request.identity_key and tls == request.tls_key
    if not request.is_server:
        node = read_node_key(folder / "node.key")
        is_own = is_own and node_point(node) == request.node_key
        SiteFolder(folder).owner_key  # noqa: B018 - refused when it is missing
    if not is_own:
        raise ConfigError(
            f"the keys in {folder} are not those of {request.file_name} beside them: restore both "
            "from a copy, or make new ones in a new folder"
        )


def _check_nodes(welcome: Welcome, roster: Roster, request: JoinRequest) -> None:
    """The server lets in the nodes of the roster's sites; a site finds its own."""
    if request.is_server:
        is_right = list(welcome.nodes) == [site for site, _ in roster.members]
        is_right = is_right and len(set(welcome.nodes.values())) == len(welcome.nodes)
    else:
        is_right = welcome.nodes == {request.party: request.node_key}
    if not is_right:
        raise ConfigError(
            "the node keys in the welcome are not those of the roster's sites: ask the owner for "
            "another welcome"
        )
