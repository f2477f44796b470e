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
from phoenix_secure.federation.deployment.held_rosters import require_successor
from phoenix_secure.federation.deployment.hosts import host_port
from phoenix_secure.federation.deployment.key_renewal import (
    finish_switch,
    keys_named,
    switch_keys,
)
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
from protocol import SERVER, Roster, RosterChain

__all__ = ["Renewal", "has_joined", "note_rosters"]


def has_joined(folder: Path) -> bool:
    """Whether ``folder`` is of a party that joined a federation."""
    return any((folder / name).exists() for name in ("site.yaml", "server.yaml"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """A welcome that goes on from what a party's folder holds.

    new    rosters that the folder does not have yet, oldest first
    keys   where the keys lie that the newest of them names: the folder itself, or the one in it
           that ``site renew`` made
    """

    folder: Path
    keys: Path
    welcome: Welcome
    rosters: RosterChain
    new: tuple[Roster, ...]

    @classmethod
    def open(cls, folder: Path, welcome: Path, *, as_server: bool) -> Renewal:
        """Hold the welcome in a file against ``folder``; nothing is written, but for a switch of
        keys that was interrupted, which is finished first.

        Raises:     ConfigError naming the first thing that does not fit, and what to do.
        """
        party, federation, address = _facts(folder, as_server=as_server)
        if not as_server:
            finish_switch(folder)
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
        keys = folder if as_server else keys_named(folder, offered.current, party=party)
        _check_member(keys, offered, party=party)
        _check_nodes(keys, found, offered.current)
        tls = read_tls_key(keys / ("server.key" if as_server else "door.key"))
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
            keys=keys,
            welcome=found,
            rosters=offered,
            new=offered.rosters[len(held.rosters) :],
        )

    @property
    def has_new_keys(self) -> bool:
        """Whether it puts the new keys of ``site renew`` in place."""
        return self.keys != self.folder

    def complete(self) -> None:
        """Take it: certificate, nodes, and the rosters last. It can be done again.

        New keys take the place of the old ones at one moment: killed before it, the site goes on
        with the old ones; killed afterwards, with the new ones.

        Raises:     StorageError.
        """
        papers = self.welcome.papers()
        if self.welcome.party == SERVER:
            renew_server(self.folder, papers)
            return
        renew_site(self.keys, papers)
        if self.has_new_keys:
            switch_keys(self.folder)
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
            f"{party}: new keys are made with `site renew`, or join in the folder in which {party} "
            "made them; if it made none, telephone the owner, who admitted somebody else"
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
