"""The states of the server's session. None holds a secret before R4 has rebuilt one, and what is
rebuilt there lives only inside the one call that removes the masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.dealing import DegreeTest
from protocol.graph import Neighbourhoods
from protocol.identity import Identity
from protocol.keys import PublicKeys
from protocol.masks import Words
from protocol.messages import ShareKeys
from protocol.roster import Roster
from protocol.secrecy import NoCopies
from protocol.session import State
from protocol.spec import RoundSpec

__all__ = [
    "Advertising",
    "Centre",
    "Checking",
    "Completed",
    "Dealing",
    "Masking",
    "Planned",
    "Sharing",
    "Unmasking",
]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Centre(NoCopies):
    """What the server brings to a round."""

    identity: Identity
    roster: Roster
    spec: RoundSpec
    context: bytes
    points: Mapping[str, int]
    num_threads: int


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Planned(State):
    """Before R0."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Advertising(State):
    """R0: collects keys; ``advertisements`` as they were signed.

    ``offers``: site -> dealer -> the encapsulation key that the site has for it (hybrid suite).
    """

    keys: Mapping[str, PublicKeys]
    advertisements: Mapping[str, bytes]
    offers: Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Dealing:
    """What is fixed once U1 is: the keys as they were signed, their hash, the graph, and a degree
    test for the points of each dealer's holders, whose random words no dealer may know."""

    keys: Mapping[str, PublicKeys]
    advertisements: Mapping[str, bytes]
    h1: bytes
    graph: Neighbourhoods
    degree_tests: Mapping[str, DegreeTest]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Sharing(State):
    """R1: collects sealed shares and commitments."""

    dealing: Dealing
    dealt: Mapping[str, ShareKeys]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Masking(State):
    """R2: adds each masked input to ``accumulator`` in place as it comes, and forgets it."""

    dealing: Dealing
    dealt: Mapping[str, ShareKeys]
    h2: bytes
    accumulator: Words
    answered: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Checking(State):
    """R3: collects signatures over ``survivors`` (U3)."""

    dealing: Dealing
    dealt: Mapping[str, ShareKeys]
    h2: bytes
    accumulator: Words
    survivors: tuple[str, ...]
    signatures: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Unmasking(State):
    """R4: collects revealed shares, holder by holder, each checked against its commitment."""

    dealing: Dealing
    dealt: Mapping[str, ShareKeys]
    h2: bytes
    accumulator: Words
    survivors: tuple[str, ...]
    signers: tuple[str, ...]
    revealed: Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Completed(State):
    """R5: the sum is out."""
