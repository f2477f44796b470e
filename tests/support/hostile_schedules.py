"""Rounds on a hostile network: lost, repeated, reordered, corrupted and lying messages."""

from __future__ import annotations

import contextlib

from protocol import SERVER, ProtocolError, RemoteProtocolError, SessionAborted
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


class LyingSites:
    """Attempts at one round in which some sites lie, each in its own way, all correctly signed.

    ``lies`` maps a site to one of ``KINDS``. ``added`` is what false inputs put on top of the sum.
    """

    KINDS = (
        "vanishes",
        "unreadable share",
        "other share",
        "off the polynomial",
        "other secret",
        "other head",
        "false complaint",
        "other survivors",
        "wrong share revealed",
        "false input",
        "false count",
    )

    def __init__(self, simulation, liars, members, lies, rng):
        self.simulation, self.liars, self.members = simulation, liars, members
        self.lies, self.rng = lies, rng
        self.excluded = {}
        self.attempts = 0
        self.added = {}

    def run(self):
        """The completed round's event; a server that excludes who is convicted, and tries again."""
        spec = self.members.spec
        while True:
            self.attempts += 1
            attempt = self.simulation.Round(self.members, spec=spec, attempt=self.attempts)
            try:
                return self._run(attempt)
            except SessionAborted as error:
                if not (error.retry_allowed and error.culprits):
                    raise
                spec = spec.next_attempt()
            finally:
                self.excluded |= attempt.server.excluded

    def _run(self, attempt):
        self.added = {}
        away = set(self.excluded)
        for stage in range(5):
            for id, data in attempt.outbound.items():
                if id in away:
                    continue
                try:
                    answer = self._answer(attempt, stage, id, data)
                    if answer:
                        attempt.server.receive(id, answer)
                    else:
                        away.add(id)
                except RemoteProtocolError as error:
                    if error.peer != id:
                        raise
                    away.add(id)
            step = attempt.server.close_stage()
            attempt.outbound = step.outbound
        return step.events[-1]

    def _answer(self, attempt, stage, id, data):
        kind = self.lies.get(id)
        client = attempt.clients[id]
        if kind == "vanishes" and stage == self.rng.randrange(1, 5):
            return b""
        complaint = None
        if stage == 2 and kind == "false complaint":
            others = [v for v in client._state.members if v not in self.lies]
            victim = self.rng.choice(others)
            complaint, _ = self.liars.false_complaint(self.members, client, data, victim)
        honest = attempt.answer(id, data)
        if complaint is not None:
            return self.liars.complaint_message(self.members, complaint, id, honest)
        if stage == 1 and kind in self.KINDS[1:6]:
            return self._dealing(kind, self.liars.Dealer(self.members, client, honest))
        body = self.liars.body_of(honest) if honest else b""
        if stage == 2 and kind in ("false input", "false count"):
            changed = bytearray(body)
            # The words begin after h2 and two lengths; the count is the last of them.
            place = 40 if kind == "false input" else len(body) - 4
            word = (int.from_bytes(changed[place : place + 4], "little") + 12345) % 2**32
            changed[place : place + 4] = word.to_bytes(4, "little")
            self.added[id] = 0 if kind == "false input" else -1
            return self.members.reseal(id, honest, body=bytes(changed))
        if (stage, kind) in ((3, "other survivors"), (4, "wrong share revealed")):
            return self.members.reseal(id, honest, body=body[:-1] + bytes([body[-1] ^ 1]))
        return honest

    def _dealing(self, kind, dealer):
        victim = self.rng.choice([id for id in self.members.ids if id not in self.lies])
        match kind:
            case "unreadable share":
                return dealer.unreadable(victim)
            case "other share":
                return dealer.wrong_shares(victim)
            case "off the polynomial":
                return dealer.changed(victim, self_mask_response=bytes([9]) + bytes(31))
            case "other secret":
                threshold = dealer.state.spec.threshold
                which = self.rng.choice(["mask_key", None])
                return dealer.other_secret(which, threshold=threshold + (which is None))
            case _:
                return dealer.signed(challenge=bytes([9]) + bytes(31))
