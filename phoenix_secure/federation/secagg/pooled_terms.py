"""Terms of a pooled audit's two secure sums.

1. Each site says by a 1 or a 0 whether it has images enough, in all and of each class.
2. The histograms, where all said 1; class by class, where all have images enough of every class.
   One site without would make what the classes leave of the whole its own counts.

A site that said 0 takes no part in the second, so that a server gains nothing by a lie about the
first: no sum of counts is ever over fewer than t - c honest sites, nor is a difference of two. Both
are exact sums, hidden among sites as a round's updates are, and under a federation id of their own:
their messages mean nothing in a round.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import CohortDraw
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts, PooledLayout
from phoenix_secure.federation.secagg.pooled_plans import check_pooled_audit
from phoenix_secure.federation.secagg.sum_step import SummedRound
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.rng import SeedTree
from protocol import Roster
from protocol.parameters import MAX_COMPLETE, MIN_HONEST, choose
from protocol.suite import Suite
from protocol.words import centre

__all__ = [
    "ABLE",
    "COUNTS",
    "classes_asked",
    "examined_request",
    "fewest_entered",
    "pooled_roster",
    "pooled_terms",
    "released_parameters",
    "summed_counts",
]

# The numbers of the two sums.
ABLE, COUNTS = 1, 2
_WORD_BITS = 32
_DIGEST_SIZE = 32
_ROSTER_LABEL = b"phoenix-secure/pooled-audit/v1:"
_TERMS_LABEL = b"phoenix-secure/pooled-audit-terms/v1:"


def pooled_terms(config: RunConfig) -> SecureTerms:
    """The terms of both sums, over all sites of the plan.

    Guarantee:  as ``choose_terms``; no sum can wrap around.
    Raises:     ConfigError naming the setting.
    """
    check_pooled_audit(config)
    settings, layout = config.secure_aggregation, PooledLayout.of(config)
    n = config.partition.num_sites
    if n > MAX_COMPLETE:
        raise ConfigError(
            f"a pooled audit is one secure sum over all {n} sites, without noise and so never on "
            f"secure_aggregation.graph=regular; the complete graph is for {MAX_COMPLETE}: set "
            "audit.at_sites=false"
        )
    try:
        graph = choose(n, roster_size=n, gamma=settings.collusion, delta=settings.dropout)
    except ValueError as error:
        raise ConfigError(
            f"a pooled audit is one secure sum over all {n} sites, and that is not possible "
            f"({error}): set audit.at_sites=false"
        ) from error
    return SecureTerms(
        num_parameters=layout.num_words,
        cohort_size=n,
        draw=CohortDraw(seeds=SeedTree(config.seed), participation=1.0, min_sites=n),
        num_colluders=graph.num_colluders,
        threshold=graph.threshold,
        word_bits=_WORD_BITS,
        scale=1.0,
        clip_norm=layout.limit * math.sqrt(layout.num_words),
        clip_value=float(layout.limit),
        max_images=1,
        collusion=settings.collusion,
        policy_hash=_terms_hash(config, layout),
        privacy_hash=hashlib.sha256(_TERMS_LABEL + b"exact").digest(),
        hides_metrics=True,
        grid=IntegerGrid(steps=1, limit=layout.limit),
        is_exact=True,
        suite=Suite(settings.suite),
    )


def fewest_entered(terms: SecureTerms) -> int:
    """The fewest sites whose counts are used: three honest ones and all that may collude."""
    return MIN_HONEST + terms.num_colluders


def classes_asked(
    able: PooledCounts, *, num_sites: int, own: PooledCounts | None = None
) -> frozenset[int] | None:
    """From the first sum, over ``num_sites``: the classes whose counts may be asked for, all or
    none; None where no count may be.

    own   what this site itself entered into the first sum

    Guarantee:  an honest site that goes on has images enough itself, and enters class by class
                exactly if all others do: one that entered a 0 where the sum says that all entered
                a 1 knows that the server lies. So the second sum is over the counts of t - c honest
                sites at least, whatever the server says.
    """
    said = np.array([able.entered, *able.able]) == num_sites
    if not said[0]:
        return None
    if own is not None and (said & (np.array([own.entered, *own.able]) != 1)).any():
        return None
    return frozenset(range(len(able.able)) if said.all() else ())


def summed_counts(summed: SummedRound, *, terms: SecureTerms, layout: PooledLayout) -> PooledCounts:
    """What a sum holds; nothing is believed of it."""
    words, _ = summed.words(terms)
    return layout.read(centre(words, word_bits=terms.word_bits))


def examined_request(state: bytes, *, first: bytes, number: int) -> TrainRequest:
    """What the contexts of a sum bind: the digest of the model's state and, for counts, that of
    the first sum; each byte is a number, since a request holds a vector."""
    content = np.frombuffer(state + first.ljust(_DIGEST_SIZE, b"\0"), np.uint8)
    return TrainRequest(round_number=number, parameters=content.astype(np.float32))


def released_parameters(state: ServerState, config: RunConfig) -> np.ndarray:
    """The weights that leave the federation: the moving average where there is one."""
    return state.ema if config.ema.decay > 0 else state.parameters


def pooled_roster(roster: Roster) -> Roster:
    """The members of a plan's ``round_roster`` under a federation id of its pooled audit alone."""
    digest = hashlib.sha256(_ROSTER_LABEL + roster.federation_id.encode())
    return dataclasses.replace(roster, federation_id=digest.hexdigest())


def _terms_hash(config: RunConfig, layout: PooledLayout) -> bytes:
    """Over what decides a site's counts: the form, and how the model is read."""
    values = {
        "layout": dataclasses.asdict(layout),
        "settings": config.model_dump(
            mode="json",
            include={
                **dict.fromkeys(("seed", "model", "diffusion", "ema", "audit"), True),
                "data": {"class_names", "image_size", "channels"},
            },
        ),
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(_TERMS_LABEL + text.encode()).digest()
