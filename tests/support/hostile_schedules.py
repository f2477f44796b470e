"""Rounds in which sites lie, on a network that loses, repeats, reorders and corrupts messages."""

from __future__ import annotations

import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from protocol import SERVER, ProtocolError, SessionAborted
from protocol.events import RoundCompleted
from protocol.messages import Envelope, Unmask

STAGES = 5
MASKING = 2
# What a false input adds to one word of the sum.
FALSE = 12345


@dataclass
class Outcome:
    """What a schedule came to. ``added``: word -> what false inputs put on top of the sum."""

    completed: RoundCompleted | None = None
    attempts: int = 0
    convicted: set = field(default_factory=set)
    proofs: list = field(default_factory=list)
    added: Counter = field(default_factory=Counter)


class Lies:
    """Correctly signed lies; ``kinds`` maps a site to the one that it tells."""

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
        "garbled message",
    )
    DEALINGS = KINDS[1:6]

    def __init__(self, members, kinds, *, liars, rng):
        self.members, self.kinds = members, kinds
        self.liars, self.rng = liars, rng
        self.added = {}

    def of(self, id):
        return self.kinds.get(id)

    def vanishes(self, id, stage):
        return self.of(id) == "vanishes" and stage == self.rng.randrange(1, STAGES)

    def before(self, stage, client, id, data):
        """A complaint has to be made before the site opens what it complains about."""
        if stage != MASKING or self.of(id) != "false complaint" or client.state != "Shared":
            return None
        honest = [v for v in client._state.members if v not in self.kinds]
        if not honest:
            return None
        # What arrives may be cut or changed on the way.
        with contextlib.suppress(ProtocolError, ValueError):
            complaint, _ = self.liars.false_complaint(
                self.members, client, data, self.rng.choice(honest)
            )
            return complaint
        return None

    def after(self, stage, client, id, honest, complaint):
        """What ``id`` sends in place of its ``honest`` answer."""
        kind = self.of(id)
        if complaint is not None:
            return self.liars.complaint_message(self.members, complaint, id, honest)
        if stage == 1 and kind in self.DEALINGS:
            return self._dealing(kind, self.liars.Dealer(self.members, client, honest))
        body = self.liars.body_of(honest)
        if stage == MASKING and kind in ("false input", "false count"):
            return self.members.reseal(id, honest, body=self._false_input(id, kind, body))
        if (stage, kind) in ((3, "other survivors"), (4, "wrong share revealed")):
            return self.members.reseal(id, honest, body=body[:-1] + bytes([body[-1] ^ 1]))
        # A changed input is another input, which no sum tells from a true one.
        if kind == "garbled message" and stage != MASKING and self.rng.random() < 0.5:
            return self.members.reseal(id, honest, body=flipped(body, self.rng))
        return honest

    def _false_input(self, id, kind, body):
        """The words begin after h2 and two lengths; the count is the last of them."""
        size = self.members.spec.word_bits // 8
        place = 40 if kind == "false input" else len(body) - size
        word = int.from_bytes(body[place : place + size], "little") + FALSE
        self.added[id] = 0 if kind == "false input" else self.members.spec.total_words - 1
        changed = (word % (1 << 8 * size)).to_bytes(size, "little")
        return body[:place] + changed + body[place + size :]

    def _dealing(self, kind, dealer):
        holders = [share.holder for share in dealer.honest.shares if share.holder != dealer.id]
        victim = self.rng.choice([id for id in holders if id not in self.kinds] or holders)
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


class Network:
    """Each message may vanish (with its site, for the attempt), come twice, come out of order, come
    again later, or be cut or flipped on the way. A ``quiet`` one carries everything.
    """

    def __init__(self, rng, *, quiet):
        self.rng, self.quiet = rng, quiet

    def happens(self, probability):
        return not self.quiet and self.rng.random() < probability

    def versions(self, data):
        """What arrives of one message: corrupted copies first, at times; then the message."""
        if self.quiet:
            return [data]
        versions = []
        if self.happens(0.05):
            versions.append(data[: self.rng.randrange(len(data))])
        if self.happens(0.05):
            versions.append(flipped(data, self.rng))
        if not self.happens(0.03):
            versions += [data] * self.rng.choice([1, 1, 1, 2])
        return versions

    def reordered(self, messages):
        if not self.quiet:
            self.rng.shuffle(messages)
        return messages


class Schedule:
    """Attempts at one round by a server that excludes who is convicted, and tries again."""

    def __init__(self, simulation, members, lies, network, *, max_attempts):
        self.simulation, self.members = simulation, members
        self.lies, self.network = lies, network
        self.max_attempts = max_attempts
        self.outcome = Outcome()

    def run(self):
        outcome, spec = self.outcome, self.members.spec
        while outcome.completed is None and outcome.attempts < self.max_attempts:
            outcome.attempts += 1
            attempt = self.simulation.Round(self.members, spec=spec, attempt=outcome.attempts)
            aborted = _Attempt(self, attempt).run()
            outcome.convicted |= attempt.server.excluded.keys()
            outcome.proofs += attempt.server.proofs
            check_revealed(attempt)
            if aborted is None:
                outcome.completed = attempt.completed
                outcome.added = Counter(
                    place
                    for id, place in self.lies.added.items()
                    if id in outcome.completed.survivors
                )
                break
            # What an error names is what the server excluded by signed messages, and no more.
            assert set(aborted.culprits) <= outcome.convicted
            if not aborted.retry_allowed:
                break
            spec = spec.next_attempt()
        return outcome


class _Attempt:
    """One attempt: five stages, or the error that ended it."""

    def __init__(self, schedule, attempt):
        self.attempt = attempt
        self.lies, self.network = schedule.lies, schedule.network
        self.rng = schedule.network.rng
        self.ids = schedule.members.ids
        self.away = set(schedule.outcome.convicted)
        self.sent = []
        self.lies.added = {}

    def run(self):
        server = self.attempt.server
        try:
            for _ in range(STAGES):
                for id, data in self.network.reordered(self._replies()):
                    self._receive(id, data)
                step = server.close_stage()
                self.attempt.events.append((SERVER, step.events))
                self.attempt.outbound = step.outbound
                self.attempt.stage += 1
        except SessionAborted as error:
            assert server.state == "Aborted"
            return error
        for id, data in self.attempt.outbound.items():
            self._answer(id, data)
        return None

    def _receive(self, id, data):
        try:
            self.attempt.server.receive(id, data)
        except SessionAborted:
            raise
        except ProtocolError:
            # A signed message that breaks a rule; whoever signed it is heard no more.
            if id in self.attempt.server.excluded:
                self.away.add(id)

    def _replies(self):
        replies = []
        for id, data in self.network.reordered(list(self.attempt.outbound.items())):
            if id in self.away:
                continue
            if self.network.happens(0.03) or self.lies.vanishes(id, self.attempt.stage):
                self.away.add(id)
                continue
            for version in self.network.versions(data):
                reply = self._answer(id, version)
                if reply:
                    replies += [(id, each) for each in self.network.versions(reply)]
        if self.sent and self.network.happens(0.5):
            replies.append(self.rng.choice(self.sent))
        if self.sent and self.network.happens(0.2):
            replies.append((self.rng.choice(self.ids), self.rng.choice(self.sent)[1]))
        return replies

    def _answer(self, id, data):
        client, stage = self.attempt.clients[id], self.attempt.stage
        complaint = self.lies.before(stage, client, id, data)
        try:
            reply = self.attempt.answer(id, data)
        except ProtocolError:
            return b""
        if reply and stage < STAGES:
            reply = self.lies.after(stage, client, id, reply, complaint)
            self.sent.append((id, reply))
        return reply


def check_revealed(attempt):
    """No two kinds of shares of one dealer leave the honest sites of an attempt."""
    kinds = defaultdict(set)
    for _, id, _, outbound in attempt.log:
        if not outbound:
            continue
        envelope = Envelope.parse(outbound, peer=id, max_size=len(outbound))
        if envelope.label == Unmask.LABEL:
            for share in Unmask.decode(envelope.body, peer=id, max_shares=100).shares:
                kinds[share.dealer].add(share.kind)
    assert all(len(found) == 1 for found in kinds.values()), "both shares of one dealer left"


def flipped(data, rng):
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def draw(simulation, liars, seed, *, quiet=None, **more):
    """The schedule of ``seed``: federation, liars and network; ``more`` is for the federation.

    quiet   None: three in ten are; a quiet one has no more liars than the threshold bears
    """
    rng = random.Random(seed)  # noqa: S311 - steers a test
    quiet = rng.random() < 0.3 if quiet is None else quiet
    n = 20 if rng.random() < 0.01 else rng.choice([5, 6, 7, 9])
    members = simulation.Federation(
        n,
        num_words=rng.choice([1, 3, 16]),
        word_bits=rng.choice([16, 24, 32]),
        noise_variance=rng.choice([0.0, 9.0]),
        collusion=0.1,
        **more,
    )
    most = members.spec.num_colluders if quiet or rng.random() < 0.8 else n
    count = rng.randint(1 if quiet else 0, most)
    kinds = {id: rng.choice(Lies.KINDS) for id in rng.sample(members.ids, count)}
    return Schedule(
        simulation,
        members,
        Lies(members, kinds, liars=liars, rng=rng),
        Network(rng, quiet=quiet),
        max_attempts=1 + count + (not quiet),
    )
