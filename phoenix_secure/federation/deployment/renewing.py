"""A party that has joined takes the federation's next roster, or a new certificate.

No words are needed: the owner's key was pinned when the party joined, and it signs each roster.
What is taken goes on from the rosters that lie here; nobody gets a party to go back, or to another
history of the same owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.certificates import (
    check_certificate,
    server_alternatives,
    server_name,
)
from phoenix_secure.federation.deployment.hosts import host_port
from phoenix_secure.federation.deployment.party_folders import renew_server, renew_site
from phoenix_secure.federation.deployment.party_keys import (
    node_point,
    read_identity,
    read_node_key,
    read_tls_key,
)
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder, pinned_owner, read_rosters
from phoenix_secure.federation.deployment.welcome import Welcome, read_welcome
from phoenix_secure.files import write_bytes
from protocol import SERVER, RemoteProtocolError, Roster, RosterChain, Succession

__all__ = ["Renewal", "has_joined", "note_rosters", "require_successor", "take_rosters"]


def has_joined(folder: Path) -> bool:
    """Whether ``folder`` is of a party that joined a federation."""
    return any((folder / name).exists() for name in ("site.yaml", "server.yaml"))


def require_successor(held: RosterChain, offered: RosterChain) -> None:
    """Refuse rosters that do not go on from those held; the same ones are fine.

    Raises:     ConfigError that says whether they are older or another history.
    """
    match held.compare(offered):
        case Succession.OLDER:
            raise ConfigError(
                f"rollback: these rosters end with epoch {offered.current.epoch}, and epoch "
                f"{held.current.epoch} is in force here: ask the owner for the newest welcome"
            )
        case Succession.FORKED:
            epoch = next(
                ours.epoch
                for ours, theirs in zip(held.rosters, offered.rosters, strict=False)
                if ours.hash != theirs.hash
            )
            raise ConfigError(
                f"fork: this is another roster of epoch {epoch} than the one here, and the owner's "
                "key signed both: do not use it; compare the words of `show` with other parties "
                "and with the owner, whose folder may be an old copy or in other hands"
            )


def take_rosters(folder: Path, data: bytes) -> tuple[Roster, ...]:
    """Put the rosters in ``data`` in the place of those in ``folder``; returns the new ones.

    Guarantee:  ``folder`` is changed in one step, and only by what the pinned owner signed and goes
                on from what lies there.
    Raises:     ConfigError; StorageError.
    """
    held = read_rosters(folder)
    try:
        offered = RosterChain.load(data, owner_key=pinned_owner(folder))
    except RemoteProtocolError as error:
        raise ConfigError(
            f"the offered rosters are not those of the pinned owner ({error.detail})"
        ) from error
    require_successor(held, offered)
    new = offered.rosters[len(held.rosters) :]
    if new:
        write_bytes(folder / "roster.bin", offered.to_bytes())
    return new


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """A welcome that goes on from what a party's folder holds.

    new   rosters that the folder does not have yet, oldest first
    """

    folder: Path
    welcome: Welcome
    rosters: RosterChain
    new: tuple[Roster, ...]

    @classmethod
    def open(cls, folder: Path, welcome: Path, *, as_server: bool) -> Renewal:
        """Hold the welcome in a file against ``folder``; nothing is written.

        Raises:     ConfigError naming the first thing that does not fit, and what to do.
        """
        party, federation, address = _facts(folder, as_server=as_server)
        found = read_welcome(welcome)
        if (found.federation, found.party) != (federation, party):
            raise ConfigError(
                f"{welcome} is for {found.party} of {found.federation}, and {folder} is of {party} "
                f"of {federation}: ask the owner for {party}.welcome"
            )
        if found.owner_key != pinned_owner(folder):
            raise ConfigError(
                f"{welcome} is signed by another owner than the one that {folder} joined: an "
                "owner's key does not change; for a federation of another owner make keys with "
                f"`{'server' if as_server else 'site'} init` in a new folder"
            )
        held, offered = read_rosters(folder), found.rosters()
        require_successor(held, offered)
        _check_member(folder, offered, party=party)
        _check_nodes(folder, found, offered.current)
        tls = read_tls_key(folder / ("server.key" if as_server else "door.key"))
        check_certificate(
            found.certificate,
            authority=found.ca_certificate,
            public=tls,
            name=server_name(federation) if as_server else party,
            alternatives=server_alternatives([found.host]) if as_server else None,
        )
        if as_server and address != (stated := host_port(found.host, found.port)):
            raise ConfigError(
                f"the welcome says that sites reach this server at {stated}, and "
                f"server.yaml says {address}: agree with the owner"
            )
        _check_age(found, folder / ("server.crt" if as_server else "door.crt"))
        return cls(
            folder=folder,
            welcome=found,
            rosters=offered,
            new=offered.rosters[len(held.rosters) :],
        )

    def complete(self) -> None:
        """Take it: certificate, nodes, and the rosters last. It can be done again.

        Raises:     StorageError.
        """
        papers = self.welcome.papers()
        if self.welcome.party == SERVER:
            renew_server(self.folder, papers)
        else:
            renew_site(self.folder, papers)
            # The site's own log says from when on it knew.
            note_rosters(SiteFolder(self.folder), self.new)


def note_rosters(site: SiteFolder, new: tuple[Roster, ...]) -> None:
    """One line of the site's log for each new roster."""
    for roster in new:
        changes = "; ".join(map(str, roster.changes))
        site.audit().record("roster", epoch=roster.epoch, roster=roster.hash.hex(), why=changes)


def _facts(folder: Path, *, as_server: bool) -> tuple[str, str, str]:
    """Party, federation, and the address of a server."""
    site, server = SiteFolder(folder), ServerFolder(folder)
    if as_server != server.settings_file.exists():
        other = "site" if as_server else "server"
        raise ConfigError(f"{folder} is of a {other}: use `phoenix-secure {other} join`")
    if as_server:
        settings = server.settings()
        return SERVER, settings.federation, settings.address
    own = site.settings()
    return own.site, own.federation, ""


def _check_member(folder: Path, offered: RosterChain, *, party: str) -> None:
    roster = offered.current
    identity = read_identity(folder, party, suite=roster.suite)
    held = roster.key(party)
    if held is None:
        raise ConfigError(
            f"{party} is not in the roster of epoch {roster.epoch}: ask the federation's owner"
        )
    if held != identity.public_key:
        raise ConfigError(
            f"the roster of epoch {roster.epoch} holds another key than this folder's as that of "
            f"{party}: join in the folder in which {party} made its new keys; if it made none, "
            "telephone the owner, who admitted somebody else"
        )


def _check_nodes(folder: Path, welcome: Welcome, roster: Roster) -> None:
    if welcome.party == SERVER:
        is_right = list(welcome.nodes) == [site for site, _ in roster.members]
        is_right = is_right and len(set(welcome.nodes.values())) == len(welcome.nodes)
    else:
        own = node_point(read_node_key(folder / "node.key"))
        is_right = welcome.nodes == {welcome.party: own}
    if not is_right:
        raise ConfigError(
            "the node keys in the welcome are not those of the roster's sites: ask the owner for "
            "another welcome"
        )


def _check_age(welcome: Welcome, held: Path) -> None:
    """A welcome of before does not bring back a certificate that was replaced."""
    try:
        before = x509.load_pem_x509_certificate(held.read_bytes()).not_valid_before_utc
    except (OSError, ValueError):
        return  # there is none, or none that works
    offered = x509.load_pem_x509_certificate(welcome.certificate).not_valid_before_utc
    if offered < before:
        raise ConfigError(
            f"the welcome is older than the certificate in {held}: it was used before, or came "
            "late; ask the owner for the newest one"
        )
