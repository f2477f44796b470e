"""Attacks on whole components: real sites and files, an attacker with the server's key."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import protocol_liars
import secure_parties as secure_parties_module
from ceremony import Ceremony
from protocol import Identity
from protocol.messages import Envelope, seal


@pytest.fixture(scope="session")
def secure_parties() -> ModuleType:
    """The module ``secure_parties``: secure rounds whose sites train by a rule."""
    return secure_parties_module


@pytest.fixture(scope="session")
def liars() -> ModuleType:
    """The module ``protocol_liars``: dishonest dealings and complaints."""
    return protocol_liars


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    """A federation of which the server and one site are admitted."""
    made = Ceremony(tmp_path)
    made.prepare_and_admit("server", "clinic")
    return made


@pytest.fixture
def signed(ceremony: Ceremony) -> Ceremony:
    """The same with another site, and a signed roster."""
    ceremony.prepare_and_admit("hospital")
    ceremony.owner.sign()
    return ceremony


class Liar:
    """A site of ``parties`` that answers one stage with what ``lie`` makes of the honest answer."""

    def __init__(self, parties: Any, name: str) -> None:
        self.identities: dict[str, Identity] = parties.identities
        self.name = name
        self.site = parties.sites[name]
        self.honest = self.site.handle

    @property
    def session(self) -> Any:
        """The client session of the attempt under way."""
        return self.site.secure._attempt.session

    def reseal(self, id: str, data: bytes, *, body: bytes, **changes: bytes) -> bytes:
        """``data`` signed anew by ``id`` with another body."""
        envelope = Envelope.parse(data, peer=id, max_size=len(data))
        fields = {"label": envelope.label, "context": envelope.context} | changes
        return seal(self.identities[id], body=body, **fields)

    def lies_at(self, stage: str, lie: Any) -> None:
        """``lie(request, honest)`` answers; it calls ``honest()`` when it wants to."""

        def handle(asked: str, body: bytes) -> bytes:
            if asked != stage:
                return self.honest(asked, body)
            return lie(body, lambda: self.honest(asked, body))

        self.site.handle = handle


@pytest.fixture(scope="session")
def liar() -> type[Liar]:
    """The class ``Liar``."""
    return Liar
