"""The folder of a federation's owner: who founds it, admits its parties and signs the roster.

::

    owner.key, federation-owner.pub   sign the roster, admissions and welcomes
    ca.key, ca.crt                    the authority, which certifies the parties' TLS keys
    federation.yaml                   name, suite, and where the parties meet
    admitted/PARTY.admission          requests that the owner confirmed
    decided/PARTY.decision            sites to be suspended, resumed or revoked
    roster.bin                        all rosters that were signed (``protocol.roster_chain``)
    welcomes/PARTY.welcome            goes to that party; nothing in it is secret

No party's secret is ever here. Whoever has the two keys can sign another roster and certify false
servers: each party compares the owner's words, and the roster's with the other parties.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.admissions import Admissions
from phoenix_secure.federation.deployment.certificates import Authority
from phoenix_secure.federation.deployment.decisions import Decisions
from phoenix_secure.federation.deployment.deployment import Deployment, superlink_port_beside
from phoenix_secure.federation.deployment.federation_settings import FederationSettings
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.join_request import JoinRequest
from phoenix_secure.federation.deployment.new_folder import new_folder
from phoenix_secure.federation.deployment.next_roster import NextRoster
from phoenix_secure.federation.deployment.site_settings import read_section
from phoenix_secure.federation.deployment.welcome import Welcome, owner_fingerprint
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.secret_files import read_secret, write_secret
from phoenix_secure.yaml_text import dump_yaml
from protocol import ChangeKind, Identity, RemoteProtocolError, Roster, RosterChain, RosterChange
from protocol.identity import SEED_SIZE

__all__ = ["OwnerFolder", "SignedFederation"]

# Longer than any certificate that it signs: a party's can be renewed (`deploy sign` again).
_AUTHORITY_DAYS = 3660


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedFederation:
    """What ``sign`` made.

    is_new     whether a roster was signed, and not only certificates
    warning    about too few sites; None where there are enough
    welcomes   party -> the file that goes to it
    """

    roster: Roster
    is_new: bool
    warning: str | None
    welcomes: dict[str, Path]


@dataclass(frozen=True, slots=True)
class OwnerFolder:
    """Paths and files of the owner in ``path``."""

    path: Path

    @classmethod
    def found(cls, path: Path, settings: FederationSettings) -> OwnerFolder:
        """Make a new federation: the owner's key and the authority's, and no other.

        Guarantee:  keys have mode 0600 from the first moment on; when anything fails, nothing is
                    left behind.
        Raises:     ConfigError for a folder in use; StorageError when it cannot be written.
        """
        with new_folder(path):
            owner = Identity.generate("owner", suite=settings.suite)
            authority = Authority.make(settings.federation, days=_AUTHORITY_DAYS)
            write_secret(path / "owner.key", owner.export_seed())
            write_secret(path / "ca.key", authority.export_key())
            write_bytes(path / "federation-owner.pub", owner.public_key)
            write_bytes(path / "ca.crt", authority.pem)
            with storage_errors(path):
                (path / "admitted").mkdir()
                (path / "welcomes").mkdir()
            content = settings.model_dump(mode="json", exclude_none=True)
            write_bytes(path / "federation.yaml", dump_yaml(content).encode())
        return cls(path)

    def settings(self) -> FederationSettings:
        """What was settled when the federation was founded.

        Raises:     ConfigError, also where nobody founded one here.
        """
        file = self.path / "federation.yaml"
        if not file.is_file():
            raise ConfigError(
                f"{self.path} is no folder of a federation's owner (no federation.yaml): found one "
                "with `phoenix-secure deploy found`"
            )
        return read_section(file, FederationSettings)

    @property
    def fingerprint(self) -> Fingerprint:
        """What the owner reads to each party by telephone."""
        return owner_fingerprint(self.settings().federation, self._owner().public_key)

    def examine(self, request: JoinRequest, *, replaces: bool = False) -> bool:
        """Refuse a request that cannot be admitted; whether it has been already.

        replaces   it is to take the place of an admitted party's keys

        Raises:     ConfigError naming what is wrong and what to do.
        """
        settings, party = self.settings(), request.party
        settings.require_fit(request)
        # Names as long as the protocol allows would be too long for a setting.
        _deployment(settings, sites=("site",) if request.is_server else (party,))
        return self._admissions().examine(request, replaces=replaces)

    def admit(self, request: JoinRequest, *, heard: str, replaces: bool = False) -> None:
        """Admit a party whose words the owner heard from the party itself.

        Guarantee:  nobody is admitted without words; those in ``heard`` are of this very request.
        Raises:     ConfigError.
        """
        request.fingerprint.require(heard, whose=request.party)
        if not self.examine(request, replaces=replaces):
            self._admissions().add(request)

    def suspend(self, site: str, *, reason: str = "") -> None:
        """Leave a site out from the next roster on, until it is resumed.

        Raises:     ConfigError where no roster is signed, or the site is not in it.
        """
        self._decide(ChangeKind.SUSPENDED, site, reason)

    def resume(self, site: str, *, reason: str = "") -> None:
        """Take a suspended site in again with the next roster, or take a decision back.

        Raises:     ConfigError where no roster is signed, or the site is not suspended.
        """
        self._decide(ChangeKind.RESUMED, site, reason)

    def revoke(self, site: str, *, reason: str = "") -> None:
        """Leave a site out from the next roster on, for good.

        Raises:     ConfigError where no roster is signed, or the site is not in it.
        """
        self._decide(ChangeKind.REVOKED, site, reason)

    def pending(self) -> tuple[RosterChange, ...]:
        """What the next roster would change; nothing as long as none is signed.

        Raises:     ConfigError.
        """
        chain = self.rosters()
        return () if chain is None else self._next(chain).changes

    def rosters(self) -> RosterChain | None:
        """All rosters; None as long as none is signed.

        Raises:     ConfigError for one that another owner signed.
        """
        try:
            signed = (self.path / "roster.bin").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return RosterChain.load(signed, owner_key=self._owner().public_key)
        except RemoteProtocolError as error:
            raise ConfigError(
                f"{self.path / 'roster.bin'} is not signed by this owner ({error.detail}): restore "
                "it from a copy"
            ) from error

    def roster(self) -> Roster | None:
        """The roster in force; None as long as none is signed.

        Raises:     ConfigError for one that another owner signed.
        """
        chain = self.rosters()
        return None if chain is None else chain.current

    def admitted(self) -> list[JoinRequest]:
        """Who is admitted so far, sorted by name; the server among them."""
        return self._admissions().all()

    def sign(self, *, days: int = 365) -> SignedFederation:
        """Sign the roster over all parties, and write a welcome for each of them.

        The first is over all who are admitted. Done again it is the next epoch, with whatever was
        admitted and decided since; where nothing was, the roster stays. The parties get new
        certificates each time.

        days   for which the certificates hold

        Raises:     ConfigError where the server or sites are missing, or no roster can follow.
        """
        settings, owner, before = self.settings(), self._owner(), self.rosters()
        upcoming = self._next(before)
        for request in upcoming.requests:
            settings.require_fit(request)  # federation.yaml may have been edited since
        deployment = _deployment(settings, sites=tuple(upcoming.sites), days=days)
        authority = self._authority()
        chain = upcoming.sign(owner, federation=settings.federation, before=before)
        if chain is not before:
            # On the disk before any welcome names it: an epoch is never signed twice.
            write_bytes(self.path / "roster.bin", chain.to_bytes())
        nodes = {site: request.node_key for site, request in upcoming.sites.items()}
        welcomes = {}
        for request in upcoming.requests:
            party = request.party
            welcome = Welcome(
                owner_key=owner.public_key,
                federation=settings.federation,
                party=party,
                roster=chain.to_bytes(),
                ca_certificate=authority.pem,
                certificate=_certificate(authority, request, days=days),
                host=deployment.host,
                port=deployment.port,
                folder=settings.folder,
                nodes=nodes if request.is_server else {party: request.node_key},
            )
            welcomes[party] = self.path / "welcomes" / welcome.file_name
            write_bytes(welcomes[party], welcome.sign(owner))
        self._remove_others(welcomes)
        return SignedFederation(
            roster=chain.current,
            is_new=chain is not before,
            warning=deployment.warning,
            welcomes=welcomes,
        )

    def _decide(self, kind: ChangeKind, site: str, reason: str) -> None:
        try:
            change = RosterChange(kind=kind, party=site, reason=reason)
        except ValueError as error:
            raise ConfigError(f"SITE or --reason: {error}") from error
        self._decisions(self._signed()).decide(change)

    def _remove_others(self, welcomes: dict[str, Path]) -> None:
        """No welcome stays for a party that is in the roster no more."""
        for path in (self.path / "welcomes").glob("*.welcome"):
            if path not in welcomes.values():
                with storage_errors(path):
                    path.unlink()

    def _next(self, chain: RosterChain | None) -> NextRoster:
        admitted = self.admitted()
        if chain is None:
            return NextRoster.first(admitted)
        return NextRoster.after(chain, admitted=admitted, decided=self._decisions(chain).pending())

    def _signed(self) -> RosterChain:
        chain = self.rosters()
        if chain is None:
            raise ConfigError(
                "no roster is signed yet: to leave a party out, delete its file from "
                f"{self.path / 'admitted'}"
            )
        return chain

    def _owner(self) -> Identity:
        """The owner's key, of the suite that was settled."""
        seed = read_secret(self.path / "owner.key", size=SEED_SIZE)
        owner = Identity("owner", seed=seed, suite=self.settings().suite)
        try:
            public = (self.path / "federation-owner.pub").read_bytes()
        except OSError:
            public = b""
        if public != owner.public_key:
            raise ConfigError(
                f"{self.path / 'owner.key'} is not the key of federation-owner.pub and of the "
                "suite in federation.yaml: restore the three from a copy"
            )
        return owner

    def _authority(self) -> Authority:
        try:
            certificate = (self.path / "ca.crt").read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.path / 'ca.crt'} is missing: restore it") from error
        return Authority.load(certificate, read_secret(self.path / "ca.key"))

    def _admissions(self) -> Admissions:
        return Admissions(self.path / "admitted", owner=self._owner(), chain=self.rosters())

    def _decisions(self, chain: RosterChain) -> Decisions:
        return Decisions(folder=self.path / "decided", owner=self._owner(), chain=chain)


def _deployment(
    settings: FederationSettings, *, sites: tuple[str, ...], days: int = 365
) -> Deployment:
    return Deployment(
        federation=settings.federation,
        sites=sites,
        host=settings.host,
        port=settings.port,
        superlink_port=superlink_port_beside(settings.port),  # it is the server's own choice
        days=days,
        suite=settings.suite.value,
        folder=settings.folder,
    )


def _certificate(authority: Authority, request: JoinRequest, *, days: int) -> bytes:
    if request.is_server:
        return authority.certify_server(
            request.tls_key, federation=request.federation, hosts=[request.host], days=days
        )
    return authority.certify_client(request.tls_key, name=request.party, days=days)
