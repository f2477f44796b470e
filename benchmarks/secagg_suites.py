"""Whole rounds in memory, in both suites: what keys, shares and signatures cost a site.

A vector of one word, so that nothing but the protocol's own messages is in the figures; one site
drops out after it dealt, so that a secret is rebuilt.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable

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
from protocol.suite import Suite

MODEL = b"model"
STAGES = ("announce", "share", "mask", "check", "unmask")


def round_costs(num_sites: int, threshold: int, *, suite: Suite) -> dict[str, float]:
    """Of one round: CPU seconds of a site (mean) and of the server, bytes of a site (largest).

    bytes_up, bytes_down    without the masked words
    """
    server, identities, roster = _federation(num_sites, suite)
    colluders = max(1, -(-num_sites // 10))
    shared = {
        "federation_id": "bench",
        "roster_hash": roster.hash,
        "num_words": 1,
        "extra_bounds": (),
        "word_bits": 32,
        "scale": 50.0,
        "clip": 2.0,
        "privacy_hash": bytes(32),
        "policy_hash": bytes(32),
        "suite": suite,
    }
    spec = RoundSpec(
        **shared,
        round=1,
        attempt=0,
        cohort=tuple(identities),
        model_hash=hashlib.sha256(MODEL).digest(),
        previous=bytes(32),
        threshold=threshold,
        quorum=threshold,
        num_colluders=colluders,
        degree=0,
        noise_variance=0.0,
    )
    policy = ClientPolicy(**shared, collusion=0.1)
    clients = {
        id: ClientSession(identity, roster=roster, policy=policy, counter=InMemoryRoundCounter())
        for id, identity in identities.items()
    }
    return _play(ServerSession(server, roster=roster, spec=spec), clients, spec)


def _federation(num_sites: int, suite: Suite) -> tuple[Identity, dict[str, Identity], Roster]:
    ids = [f"site-{place:03}" for place in range(num_sites)]
    owner, server = (Identity.generate(id, suite=suite) for id in ("owner", SERVER))
    identities = {id: Identity.generate(id, suite=suite) for id in ids}
    roster = Roster.create(
        federation_id="bench",
        owner_key=owner.public_key,
        server_key=server.public_key,
        keys={id: identity.public_key for id, identity in identities.items()},
    )
    return server, identities, roster


def _play(
    server: ServerSession, clients: dict[str, ClientSession], spec: RoundSpec
) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    up: dict[str, int] = defaultdict(int)
    down: dict[str, int] = defaultdict(int)

    def timed(name: str, run: Callable[[], object]) -> object:
        started = time.process_time()
        found = run()
        seconds[name] += time.process_time() - started
        return found

    dropped = spec.cohort[len(spec.cohort) // 2]
    outbound = timed("server", server.start).outbound
    for stage in STAGES:
        for id, data in outbound.items():
            if id == dropped and stage not in ("announce", "share"):
                continue
            client = clients[id]
            down[id] += len(data)
            step = timed("sites", lambda client=client, data=data: client.receive(data))
            if stage == "announce":
                step = timed("sites", lambda client=client: client.accept_model(MODEL))
                client.provide_input(np.zeros(1, np.int32))
            reply = step.outbound
            up[id] += len(reply) - (spec.masked_size if stage == "mask" else 0)
            timed("server", lambda id=id, reply=reply: server.receive(id, reply))
        outbound = timed("server", server.close_stage).outbound
    assert server.state == "Completed"
    return {
        "site_s": seconds["sites"] / len(clients),
        "server_s": seconds["server"],
        "bytes_up": max(up.values()),
        "bytes_down": max(down.values()),
    }
