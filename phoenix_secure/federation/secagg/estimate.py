"""Estimates the time of one secure round on this machine, without training: for ``--dry-run``."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable

import numpy as np

from phoenix_secure.federation.secagg.terms import SecureTerms
from protocol import ClientSession, Identity, InMemoryRoundCounter, Roster, ServerSession
from protocol.identity import SERVER
from protocol.masks import add_masks
from protocol.parameters import num_colluders, threshold

__all__ = ["estimate_seconds"]

_WORDS = 1 << 18
_SITES = 16
_MODEL = b"model"


def estimate_seconds(terms: SecureTerms, *, num_workers: int) -> float:
    """Seconds of masking, messages and unmasking in one round, without training and network.

    Masks and rounding are timed on 2^18 words and scaled to d; keys, shares and signatures on a
    real round of at most 16 sites and one word, scaled with the pairs that share.
    """
    n, d = terms.cohort_size, terms.num_words
    words = np.zeros(_WORDS, np.uint32)
    masks = [(os.urandom(32), 1) for _ in range(4)]
    values = np.zeros(_WORDS, np.float32)
    key = os.urandom(32)
    mask_s = _best(lambda: add_masks(words, masks, num_threads=1)) / (_WORDS * len(masks))
    encode_s = _best(lambda: terms.fixed_point.encode(values, key=key)) / _WORDS
    around = n if terms.graph is None else terms.graph.degree + 1
    sites_s = n * d * (around * mask_s + encode_s) / num_workers
    server_s = n * d * mask_s
    m = min(n, _SITES)
    return sites_s + server_s + _best(lambda: _small_round(terms, m)) * n * around / m**2


def _best(run: Callable[[], object]) -> float:
    """Wall time of the quickest of three calls."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _small_round(terms: SecureTerms, n: int) -> None:
    """A round of ``n`` sites over one word: everything that does not grow with the model."""
    c = num_colluders(n, gamma=terms.collusion)
    t = threshold(n, c)
    # Without noise, which is nothing of the protocol's time, and could not fit another cohort.
    small = dataclasses.replace(
        terms,
        num_parameters=1,
        cohort_size=n,
        num_colluders=c,
        threshold=t,
        noise=None,
        grid=None,
        graph=None,
    )
    server = Identity.generate(SERVER, suite=terms.suite)
    names = [f"site-{i:02d}" for i in range(n)]
    sites = {name: Identity.generate(name, suite=terms.suite) for name in names}
    roster = Roster.create(
        federation_id="estimate",
        owner_key=server.public_key,
        server_key=server.public_key,
        keys={name: identity.public_key for name, identity in sites.items()},
    )
    spec = small.spec(
        roster=roster, cohort=tuple(sites), protocol_round=1, model=_MODEL, previous=bytes(32)
    )
    extra = small.metric_words.encode(num_images=1, num_steps=1, loss=0.0, clipped=False)
    session = ServerSession(server, roster=roster, spec=spec)
    outbound = session.start().outbound
    clients = {
        name: ClientSession(
            identity,
            roster=roster,
            policy=small.policy(roster),
            counter=InMemoryRoundCounter(),
        )
        for name, identity in sites.items()
    }
    for name, client in clients.items():
        client.receive(outbound[name])
        session.receive(name, client.accept_model(_MODEL).outbound)
        client.provide_input(np.zeros(small.num_words, np.int32), extra=extra)
    outbound = session.close_stage().outbound
    for _ in range(4):
        for name, body in outbound.items():
            session.receive(name, clients[name].receive(body).outbound)
        outbound = session.close_stage().outbound
