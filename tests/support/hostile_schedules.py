"""Rounds on a hostile network: lost, repeated, reordered, corrupted and lying messages."""

from __future__ import annotations

import contextlib

from protocol import SERVER, ProtocolError
from protocol.messages import Envelope


class Schedule:
    """One round on a hostile network with lying sites, steered by ``rng``.

    Each message may vanish (with its site, for good), come twice, come out of order, come again
    later, be cut or flipped on the way, or be replaced by a correctly signed lie of its sender.
    """

    def __init__(self, attempt, rng):
        self.federation = attempt.federation
        self.rng = rng
        self.round = attempt
        self.sent = []
        self.vanished = set()

    def run(self):
        """The completed round's event, or None where the server gave up."""
        for _ in range(5):
            replies = self._deliver()
            self.rng.shuffle(replies)
            for id, data in replies:
                self._receive(id, data)
            try:
                step = self.round.server.close_stage()
            except ProtocolError:
                assert self.round.server.state == "Aborted"
                return None
            self.round.events.append((SERVER, step.events))
            self.round.outbound = step.outbound
            self.round.stage += 1
        for id, data in self.round.outbound.items():
            self._answer(id, data)
        return self.round.completed

    def _deliver(self):
        replies = []
        targets = list(self.round.outbound.items())
        self.rng.shuffle(targets)
        for id, data in targets:
            if id in self.vanished or self.rng.random() < 0.03:
                self.vanished.add(id)
                continue
            for version in self._versions(data):
                reply = self._answer(id, version)
                if reply:
                    replies += [(id, v) for v in self._versions(self._maybe_lie(id, reply))]
        if self.sent and self.rng.random() < 0.5:
            replies.append(self.rng.choice(self.sent))
        if self.sent and self.rng.random() < 0.2:
            replies.append((self.rng.choice(self.federation.ids), self.rng.choice(self.sent)[1]))
        return replies

    def _versions(self, data):
        """What arrives of one message: corrupted copies first, at times; then the message."""
        versions = []
        if self.rng.random() < 0.05:
            cut = self.rng.randrange(len(data))
            versions.append(data[:cut])
        if self.rng.random() < 0.05:
            versions.append(_flipped(data, self.rng))
        if self.rng.random() < 0.97:
            versions += [data] * self.rng.choice([1, 1, 1, 2])
        return versions

    def _maybe_lie(self, id, data):
        # A false masked input is a false input, which no secure sum can tell from a true one.
        if self.round.stage == 2 or self.rng.random() > 0.02:
            return data
        envelope = Envelope.parse(data, peer=id, max_size=len(data))
        return self.federation.reseal(id, data, body=_flipped(bytes(envelope.body), self.rng))

    def _answer(self, id, data):
        try:
            reply = self.round.answer(id, data)
        except ProtocolError:
            return b""
        if reply:
            self.sent.append((id, reply))
        return reply

    def _receive(self, id, data):
        with contextlib.suppress(ProtocolError):
            self.round.server.receive(id, data)


def _flipped(data, rng):
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)
