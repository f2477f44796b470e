"""The states of a site's session. Each holds only what the next step needs, so what is spent is
dropped: the seeds once keys are made of them, keys, secrets and the input after masking, the
shares that must not be revealed after signing, everything after unmasking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.capsule import PairSecret
from protocol.counter import RoundCounter
from protocol.entropy import Entropy
from protocol.graph import Neighbourhoods
from protocol.identity import Identity
from protocol.keys import PublicKeys
from protocol.masks import Words
from protocol.messages import RevealedShare
from protocol.own_keys import ChannelKeys, MaskKeys
from protocol.policy import ClientPolicy
from protocol.roster import Roster
from protocol.secrecy import NoCopies
from protocol.session import State
from protocol.spec import RoundSpec

__all__ = [
    "Announced",
    "Finished",
    "Idle",
    "Masked",
    "Offered",
    "Ready",
    "Shared",
    "Signed",
    "Site",
    "Unmasked",
]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Site(NoCopies):
    """What a site brings to each round."""

    identity: Identity
    roster: Roster
    policy: ClientPolicy
    counter: RoundCounter
    previous: bytes | None
    entropy: Entropy
    num_threads: int


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Idle(State):
    """Before R0: waits for an offer."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Offered(State):
    """R0: the offer is within policy; the model's bytes are still to be compared."""

    spec: RoundSpec
    context: bytes


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Announced(State):
    """R0 done: keys are advertised, the site trains."""

    spec: RoundSpec
    context: bytes
    self_secret: bytes
    mask_pair: MaskKeys
    channel_pair: ChannelKeys
    advertisement: bytes


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Ready(State):
    """Training done: the input is here, unmasked; waits for everybody's keys."""

    spec: RoundSpec
    context: bytes
    self_secret: bytes
    mask_pair: MaskKeys
    channel_pair: ChannelKeys
    advertisement: bytes
    vector: tuple[Words, Words]  # of the model, then of the extra words


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Shared(State):
    """R1 done: the shares are out; the secrets stay until they have masked the input."""

    spec: RoundSpec
    context: bytes
    h1: bytes
    members: Mapping[str, PublicKeys]
    graph: Neighbourhoods
    self_secret: bytes
    mask_pair: MaskKeys
    channel_pair: ChannelKeys
    own_shares: tuple[bytes, bytes] | None
    pair_secrets: Mapping[str, PairSecret]
    vector: tuple[Words, Words]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Masked(State):
    """R2 done: no key and no input any more, only other sites' shares (of a, of b) by dealer."""

    spec: RoundSpec
    context: bytes
    h2: bytes
    dealers: tuple[str, ...]
    neighbours: frozenset[str]
    held: Mapping[str, tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Signed(State):
    """R3 done: one share per dealer is left; its twin was dropped when the set was signed."""

    spec: RoundSpec
    context: bytes
    h2: bytes
    survivors: tuple[str, ...]
    reveal: tuple[RevealedShare, ...]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Unmasked(State):
    """R4 done: nothing secret is left; waits for the result."""

    spec: RoundSpec
    context: bytes
    h2: bytes
    survivors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Finished(State):
    """R5 done; the context still tells this round's messages from others."""

    context: bytes
