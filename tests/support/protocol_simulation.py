"""A federation in memory, driven stage by stage, with everything random injected."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from protocol import (
    SERVER,
    ClientPolicy,
    ClientSession,
    Identity,
    InMemoryRoundCounter,
    Roster,
    RoundSpec,
    ServerSession,
)
from protocol.entropy import insecure_counter_entropy
from protocol.events import RoundCompleted
from protocol.messages import Envelope, seal
from protocol.parameters import num_colluders, threshold
from protocol.suite import Suite

MODEL = b"the exact bytes of a model"
STAGES = 5


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


class Federation:
    """n sites and a server with reproducible keys, one round's spec, and each site's policy."""

    def __init__(
        self,
        num_sites=5,
        *,
        num_words=19,
        word_bits=32,
        scale=50.0,
        clip=2.0,
        collusion=0.2,
        extra_bounds=(1000,),
        noise_variance=0.0,
        degree=0,
        share_threshold=None,
        seed=b"federation",
        suite=Suite.CLASSICAL,
    ):
        self.seed = seed
        self.ids = tuple(f"site-{i:03d}" for i in range(num_sites))

        def identity(id, salt):
            entropy = insecure_counter_entropy(seed + salt)
            return Identity.generate(id, entropy=entropy, suite=suite)

        self.owner = identity("owner", b"/owner")
        self.server_identity = identity(SERVER, b"/server")
        self.identities = {id: identity(id, id.encode()) for id in self.ids}
        self.roster = Roster.create(
            federation_id="hospitals",
            owner_key=self.owner.public_key,
            server_key=self.server_identity.public_key,
            keys={id: who.public_key for id, who in self.identities.items()},
        )
        colluders = num_colluders(num_sites, gamma=collusion)
        quorum = threshold(num_sites, colluders)
        self.spec = RoundSpec(
            federation_id="hospitals",
            round=3,
            attempt=0,
            roster_hash=self.roster.hash,
            cohort=self.ids,
            model_hash=hashlib.sha256(MODEL).digest(),
            previous=digest("previous"),
            num_words=num_words,
            extra_bounds=extra_bounds,
            word_bits=word_bits,
            scale=scale,
            clip=clip,
            threshold=share_threshold or quorum,
            quorum=quorum,
            num_colluders=colluders,
            degree=degree,
            noise_variance=noise_variance,
            privacy_hash=digest("privacy"),
            policy_hash=digest("policy"),
            suite=suite,
        )
        self.policy = ClientPolicy(
            federation_id="hospitals",
            roster_hash=self.roster.hash,
            policy_hash=digest("policy"),
            privacy_hash=digest("privacy"),
            num_words=num_words,
            extra_bounds=extra_bounds,
            word_bits=word_bits,
            scale=scale,
            clip=clip,
            noise_variance=noise_variance,
            collusion=collusion,
            min_degree=degree,
            min_threshold=share_threshold if degree else 0,
            suite=suite,
        )
        self.counters = {id: InMemoryRoundCounter() for id in self.ids}

    def client(self, id, *, attempt=0, **changes):
        """A fresh session of site ``id``; ``changes`` replace constructor arguments."""
        arguments = {
            "roster": self.roster,
            "policy": self.policy,
            "counter": self.counters[id],
            "entropy": insecure_counter_entropy(self.seed + b"/round/%d/" % attempt + id.encode()),
        }
        return ClientSession(self.identities[id], **(arguments | changes))

    def server(self, spec=None, **changes):
        """A fresh server session."""
        return ServerSession(
            self.server_identity, roster=self.roster, spec=spec or self.spec, **changes
        )

    def words(self, id):
        """Site ``id``'s input: reproducible, both bounds among its values."""
        rng = np.random.default_rng(self.ids.index(id))
        bound = self.spec.input_bound
        words = rng.integers(-bound, bound + 1, size=self.spec.num_words, dtype=np.int32)
        words[:2] = (bound, -bound)[: words[:2].size]
        return words

    def extra_words(self, id):
        """Site ``id``'s extra words: both signs."""
        place = self.ids.index(id)
        return [(-1) ** place * (place + 1) for _ in self.spec.extra_bounds]

    def noise(self, id):
        """Site ``id``'s integer noise, or None where the round has none."""
        if not self.spec.noise_variance:
            return None
        rng = np.random.default_rng(1000 + self.ids.index(id))
        half = self.spec.noise_variance / 2
        draws = rng.poisson(half, (2, self.spec.num_words))
        return (draws[0] - draws[1]).astype(np.int64)

    def expected(self, survivors):
        """The plain sum over ``survivors``: model words and extra words as Python integers."""
        total = [0] * self.spec.total_words
        for id in survivors:
            noise = self.noise(id)
            for j, word in enumerate(self.words(id)):
                total[j] += int(word) + (int(noise[j]) if noise is not None else 0)
            for j, value in enumerate(self.extra_words(id), start=self.spec.num_words):
                total[j] += value
        return total

    def reseal(self, id, data, *, body=None, **changes):
        """``data`` signed anew by ``id`` after a change: what a lying insider can send."""
        envelope = Envelope.parse(data, peer=id, max_size=len(data))
        fields = {"label": envelope.label, "context": envelope.context} | changes
        who = self.server_identity if id == SERVER else self.identities[id]
        return seal(who, body=bytes(envelope.body) if body is None else body, **fields)

    def offer(self, **changes):
        """A correctly signed offer of the spec with ``changes``."""
        spec = dataclasses.replace(self.spec, **changes)
        return self.server(spec).start().outbound[spec.cohort[0]]


class Round:
    """One attempt; ``step`` carries one stage, and what was sent is kept in ``log``."""

    def __init__(self, federation, *, spec=None, attempt=0, server=None, clients=None):
        self.federation = federation
        self.server = server or federation.server(spec)
        cohort = self.server.spec.cohort
        self.clients = clients or {id: federation.client(id, attempt=attempt) for id in cohort}
        self.outbound = self.server.start().outbound
        self.stage = 0
        self.events = []
        self.log = []

    def answer(self, id, data):
        """What site ``id`` answers to ``data``; it joins and gives its input when asked to."""
        client = self.clients[id]
        step = client.receive(data)
        self.events.append((id, step.events))
        if client.state == "Offered":
            step = client.accept_model(MODEL)
            client.provide_input(
                self.federation.words(id),
                extra=self.federation.extra_words(id),
                noise=self.federation.noise(id),
            )
        self.log.append((self.stage, id, data, step.outbound))
        return step.outbound

    def step(self, *, absent=(), lost=()):
        """One stage in which ``absent`` hear nothing and ``lost`` are heard by nobody."""
        for id, data in self.outbound.items():
            if id not in absent:
                answer = self.answer(id, data)
                if id not in lost:
                    self.server.receive(id, answer)
        step = self.server.close_stage()
        self.events.append((SERVER, step.events))
        self.outbound = step.outbound
        self.stage += 1
        return step

    def run(self, *, absent=None):
        """All stages; ``absent`` maps a stage to the sites that vanish there for good."""
        gone = set()
        for stage in range(self.stage, STAGES):
            gone |= set((absent or {}).get(stage, ()))
            self.step(absent=gone)
        for id, data in self.outbound.items():
            if id not in gone:
                self.answer(id, data)
        return self.completed

    @property
    def completed(self):
        """The server's result, or None."""
        events = [e for _, group in self.events for e in group if isinstance(e, RoundCompleted)]
        return events[0] if events else None
