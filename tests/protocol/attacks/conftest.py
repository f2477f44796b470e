"""A malicious server: it holds the real signing key and says whatever a test makes it say."""

from __future__ import annotations

import pytest

from protocol import SERVER, SessionAborted
from protocol.keys import PublicKeys, key_transcript, share_transcript
from protocol.messages import (
    AdvertiseKeys,
    Envelope,
    KeyDirectory,
    MaskedInput,
    RoundAnnouncement,
    ShareDelivery,
    ShareKeys,
    SignatureQuorum,
    SurvivorList,
    Unmask,
    seal,
)

MODEL = b"the exact bytes of a model"


class Hostile:
    """Drives client sessions with messages that are signed by the server, honest or not.

    Each stage method does the honest thing to all clients; what it collects can be changed before
    the next one, and every message can be built alone and given to any client.
    """

    def __init__(self, federation, *, spec=None, attempt=0, **client_changes):
        self.federation = federation
        self.spec = spec or federation.spec
        self.context = self.spec.context
        self.clients = {
            id: federation.client(id, attempt=attempt, **client_changes) for id in self.spec.cohort
        }
        self.ads, self.dealt, self.uploads, self.signatures, self.revealed = {}, {}, {}, {}, {}

    def say(self, message, *, context=None):
        """``message`` as the server signs it."""
        body = message.encode()
        return seal(
            self.federation.server_identity,
            label=message.LABEL,
            context=context or self.context,
            body=body,
        )

    def offer(self):
        return self.say(RoundAnnouncement(spec=self.spec))

    def join(self, ids=None, *, model=MODEL, words=None):
        """R0 for ``ids``: offer, model, input; their advertisements are collected."""
        for id in ids or self.clients:
            client = self.clients[id]
            client.receive(self.offer())
            self.ads[id] = client.accept_model(model).outbound
            client.provide_input(
                self.federation.words(id) if words is None else words[id],
                extra=self.federation.extra_words(id),
                noise=self.federation.noise(id),
            )
        return self

    def public_keys(self):
        found = {}
        for id, data in sorted(self.ads.items()):
            body = Envelope.parse(data, peer=id, max_size=len(data)).body
            keys = AdvertiseKeys.decode(body, peer=id)
            found[id] = PublicKeys(id=id, mask=keys.mask_key, channel=keys.channel_key)
        return found

    @property
    def h1(self):
        return key_transcript(list(self.public_keys().values()), context=self.context)

    def h2(self, dealers=None):
        return share_transcript(self.h1, ids=sorted(dealers or self.dealt))

    def directory(self, ads=None):
        ads = self.ads if ads is None else ads
        return self.say(KeyDirectory(advertisements=tuple(ads[id] for id in sorted(ads))))

    def deal(self, ids=None, *, directory=None):
        """R1 for ``ids``: their dealings are collected."""
        for id in ids or self.ads:
            data = self.clients[id].receive(directory or self.directory()).outbound
            body = Envelope.parse(data, peer=id, max_size=len(data)).body
            self.dealt[id] = ShareKeys.decode(body, peer=id, max_shares=1000)
        return self

    def share_for(self, receiver, dealer):
        """What ``dealer`` sealed for ``receiver``."""
        return self.dealt[dealer].deliveries(dealer)[receiver]

    def delivery(self, receiver, *, dealers=None, shares=None):
        dealers = tuple(sorted(dealers or self.dealt))
        if shares is None:
            shares = [self.share_for(receiver, v) for v in dealers if v != receiver]
        return self.say(ShareDelivery(dealers=dealers, shares=tuple(shares)))

    def mask(self, ids=None, *, dealers=None):
        """R2 for ``ids``: their masked inputs are collected."""
        for id in ids or self.dealt:
            data = self.clients[id].receive(self.delivery(id, dealers=dealers)).outbound
            body = Envelope.parse(data, peer=id, max_size=len(data)).body
            self.uploads[id] = MaskedInput.decode(body, peer=id, size=self.spec.masked_size)
        return self

    def survivors(self, ids, *, h2=None):
        return self.say(SurvivorList(h2=h2 or self.h2(), survivors=tuple(sorted(ids))))

    def sign(self, survivors=None, *, ids=None):
        """R3 for ``ids``: their signatures over ``survivors`` are collected."""
        survivors = survivors or self.uploads
        for id in ids or survivors:
            data = self.clients[id].receive(self.survivors(survivors)).outbound
            self.signatures[id] = Envelope.parse(data, peer=id, max_size=len(data)).signature
        return self

    def quorum(self, signers=None):
        signers = self.signatures if signers is None else signers
        return self.say(
            SignatureQuorum(signatures=tuple((id, self.signatures[id]) for id in sorted(signers)))
        )

    def unmask(self, ids=None):
        """R4 for ``ids``: what each reveals is collected."""
        for id in ids or self.signatures:
            data = self.clients[id].receive(self.quorum()).outbound
            body = Envelope.parse(data, peer=id, max_size=len(data)).body
            self.revealed[id] = Unmask.decode(body, peer=id, max_shares=1000).shares
        return self


def assert_aborts(client, data, reason):
    """``client`` ends its session over ``data``, blames the server for ``reason``, and stays so."""
    with pytest.raises(SessionAborted) as caught:
        client.receive(data)
    assert caught.value.detail.startswith(reason.value)
    assert caught.value.culprits == (SERVER,)
    assert client.state == "Aborted"
    with pytest.raises(SessionAborted):
        client.receive(data)


@pytest.fixture
def hostile(federation):
    """Makes a ``Hostile`` server over a federation of five sites, or a given one."""

    def make(members=None, **options):
        return Hostile(members or federation(), **options)

    return make


@pytest.fixture
def aborts():
    """The check ``assert_aborts``."""
    return assert_aborts
