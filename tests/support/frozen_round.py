"""The frozen round: how ``vectors_data/round.json`` is made and replayed.

To change the protocol on purpose, change the version in ``protocol/labels.py`` and write the file
anew with ``PHOENIX_WRITE_VECTORS=1 python -m pytest tests/protocol/test_frozen_round.py``.
"""

from __future__ import annotations

import dataclasses

from protocol import SERVER
from protocol.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    Envelope,
    RoundAnnouncement,
    ShareKeys,
    SignatureQuorum,
    SurvivorList,
    Unmask,
)


class Replay:
    """Fresh sessions that are fed the recorded messages one by one."""

    def __init__(self, simulation, members):
        self.simulation, self.members = simulation, members
        self.server = members.server()
        self.clients = {id: members.client(id) for id in members.ids}
        self.pending = {(SERVER, id): data for id, data in self.server.start().outbound.items()}
        self.completed = None

    def feed(self, sender, receiver, data):
        """One recorded message; what its sender's session says must be the same bytes."""
        if sender == SERVER and (SERVER, receiver) not in self.pending:
            step = self.server.close_stage()
            self.pending |= {(SERVER, id): out for id, out in step.outbound.items()}
            self.completed = next((e for e in step.events if hasattr(e, "words")), None)
        assert self.pending.pop((sender, receiver)) == data, f"{sender} -> {receiver} differs"
        self.hand(receiver, sender, data)

    def hand(self, receiver, sender, data):
        """Give ``data`` to a session and keep its answer."""
        if receiver == SERVER:
            self.server.receive(sender, data)
            return
        client = self.clients[receiver]
        step = client.receive(data)
        if client.state == "Offered":
            step = client.accept_model(self.simulation.MODEL)
            client.provide_input(
                self.members.words(receiver),
                extra=self.members.extra_words(receiver),
                noise=self.members.noise(receiver),
            )
        if step.outbound:
            self.pending[receiver, SERVER] = step.outbound


def members_of(simulation):
    """Six sites, 24-bit words, noise: every part of the protocol has something to do."""
    return simulation.Federation(6, num_words=9, word_bits=24, noise_variance=4.0, seed=b"frozen")


def build(simulation, oracles, entropy):
    """The content of the file; the messages come from the oracle, not from the sessions."""
    members = members_of(simulation)
    entropies = {id: entropy(members.seed + b"/round/0/" + id.encode()) for id in members.ids}
    oracle = oracles.Oracle(members, entropies, {2: [members.ids[3]]})
    wire, total = oracle.run()
    return {
        "suite": oracles.SUITE.decode(),
        "context": members.spec.context.hex(),
        "wire": [[sender, receiver, data.hex()] for sender, receiver, data in wire],
        "sum_modulo_2_24": total,
        "transcript_hash": oracle.transcript_hash.hex(),
        "must_fail": [
            {"before": place, "from": sender, "to": receiver, "hex": data.hex(), "raises": error}
            for place, sender, receiver, data, error in must_fail(members, wire)
        ],
    }


def must_fail(members, wire):
    """(place in the wire, sender, receiver, message, error) of steps that have to be refused."""

    def find(label, sender=None):
        for place, (who, to, data) in enumerate(wire):
            envelope = Envelope.parse(data, peer=who, max_size=len(data))
            if envelope.label == label and sender in (None, who):
                return place, who, to, data, bytes(envelope.body)
        raise LookupError(label)

    def lie(found, body, error):
        place, who, to, data, _ = found
        return place, who, to, members.reseal(who, data, body=body), error

    def broken(found, change, error):
        place, who, to, data, _ = found
        return place, who, to, change(bytearray(data)), error

    def flip_last(data):
        data[-1] ^= 1
        return bytes(data)

    offer = find(RoundAnnouncement.LABEL)
    yield broken(offer, flip_last, "BAD_SIGNATURE")
    keys = find(AdvertiseKeys.LABEL)
    yield broken(keys, flip_last, "BAD_SIGNATURE")
    yield broken(keys, lambda data: bytes(data[:-1]), "MALFORMED")
    small = AdvertiseKeys(mask_key=bytes(32), channel_key=keys[4][-32:]).encode()
    yield lie(keys, small, "BAD_PUBLIC_KEY")
    shares = find(ShareKeys.LABEL)
    dealt = ShareKeys.decode(shares[4], peer=shares[1], max_shares=6)
    fewer = dataclasses.replace(dealt, shares=dealt.shares[:-1]).encode()
    yield lie(shares, fewer, "BAD_MEMBER_SET")
    survivors = find(SurvivorList.LABEL)
    listed = SurvivorList.decode(survivors[4], peer=SERVER, max_members=6)
    few = dataclasses.replace(listed, survivors=listed.survivors[:3]).encode()
    yield lie(survivors, few, "SERVER_MISBEHAVED")
    check = find(ConsistencyCheck.LABEL)
    other = ConsistencyCheck(h2=listed.h2, survivors=members.ids).encode()
    yield lie(check, other, "EQUIVOCATION")
    quorum = find(SignatureQuorum.LABEL)
    signed = SignatureQuorum.decode(quorum[4], peer=SERVER, max_members=6)
    need = members.spec.quorum
    yield lie(
        quorum,
        SignatureQuorum(signatures=signed.signatures[: need - 1]).encode(),
        "SERVER_MISBEHAVED",
    )
    repeated = (signed.signatures[0],) * need
    yield lie(quorum, SignatureQuorum(signatures=repeated).encode(), "SERVER_MISBEHAVED")
    unmask = find(Unmask.LABEL)
    yield lie(unmask, flip_last(bytearray(unmask[4])), "BAD_SHARE")
