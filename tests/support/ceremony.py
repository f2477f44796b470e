"""A federation whose parties make their own keys, each in a folder of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.federation_settings import federation_settings
from phoenix_secure.federation.deployment.founding import OwnerFolder
from phoenix_secure.federation.deployment.join_request import JoinRequest, read_request
from phoenix_secure.federation.deployment.joining import Joining, prepare_server, prepare_site
from phoenix_secure.federation.deployment.renewing import Renewal
from protocol import SERVER, ChangeKind, Identity

HOST = "fl.example.org"


class Ceremony:
    """Founder, server and sites below ``root``; every step is taken by the test."""

    def __init__(
        self,
        root: Path,
        *,
        federation: str = "net",
        suite: str = "classical",
        folder: Path | None = None,
        host: str = HOST,
        port: int = 9443,
    ) -> None:
        self.root, self.federation, self.suite = root, federation, suite
        self.host, self.port = host, port
        self.owner = OwnerFolder.found(
            root / "owner",
            federation_settings(
                federation=federation,
                host=host,
                port=port,
                suite=suite,
                folder=None if folder is None else str(folder),
            ),
        )

    def place(self, party: str) -> Path:
        return self.root / party

    def prepare(self, party: str) -> JoinRequest:
        """Make the keys of ``party`` and return its request."""
        if party == SERVER:
            return prepare_server(
                self.place(party),
                federation=self.federation,
                host=self.host,
                port=self.port,
                suite=self.suite,
            )
        return prepare_site(
            self.place(party), name=party, federation=self.federation, suite=self.suite
        )

    def request_file(self, party: str) -> Path:
        return self.place(party) / f"{party}.request"

    def admit(self, *parties: str) -> None:
        """Each party reads its words from its own folder; the owner types them."""
        for party in parties:
            request = read_request(self.request_file(party))
            self.owner.admit(request, heard=request.fingerprint.words)

    def prepare_and_admit(self, *parties: str) -> None:
        for party in parties:
            self.prepare(party)
        self.admit(*parties)

    def welcome_file(self, party: str) -> Path:
        return self.owner.path / "welcomes" / f"{party}.welcome"

    def open(self, party: str, welcome: Path | None = None) -> Joining:
        return Joining.open(
            self.place(party), welcome or self.welcome_file(party), as_server=party == SERVER
        )

    def join(self, *parties: str) -> None:
        for party in parties:
            self.open(party).complete(heard=self.owner.fingerprint.words)

    def new_keys(self, party: str) -> JoinRequest:
        """Make other keys of ``party`` in a folder of their own, which takes the first one's place;
        the first one stays beside it."""
        self.place(party).rename(self.place(f"{party}-before"))
        return self.prepare(party)

    def replace(self, party: str) -> None:
        """The owner admits other keys of a party, whose words it heard."""
        request = self.new_keys(party)
        self.owner.admit(request, heard=request.fingerprint.words, replaces=True)

    def decide(self, kind: ChangeKind, party: str, reason: str = "") -> None:
        make = {
            ChangeKind.SUSPENDED: self.owner.suspend,
            ChangeKind.RESUMED: self.owner.resume,
            ChangeKind.REVOKED: self.owner.revoke,
        }[kind]
        make(party, reason=reason)

    def renew(self, *parties: str) -> None:
        """Parties that joined before take their newest welcome."""
        for party in parties:
            self.open_renewal(party).complete()

    def open_renewal(self, party: str, welcome: Path | None = None) -> Renewal:
        return Renewal.open(
            self.place(party), welcome or self.welcome_file(party), as_server=party == SERVER
        )

    def make(self, sites: Sequence[str]) -> None:
        """All steps, for everybody."""
        self.prepare_and_admit(SERVER, *sites)
        self.owner.sign()
        self.join(SERVER, *sites)


def owner_of(made: Ceremony) -> Identity:
    """The owner's own key, for whoever got hold of it."""
    return Identity("owner", seed=(made.owner.path / "owner.key").read_bytes())


@contextlib.contextmanager
def refusal(folder: Path, said: str) -> Iterator[None]:
    """Refused in one line with ``said``, and nothing in the folder is another."""
    before = files_of(folder)
    with pytest.raises(ConfigError, match=said) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1
    assert files_of(folder) == before


def files_of(folder: Path) -> dict[str, bytes]:
    """Name below ``folder`` -> content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
