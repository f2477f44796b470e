"""The server's steps R0 to R2: collect keys, collect shares, add up masked inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import numpy as np

from protocol.complaints import is_justified
from protocol.dealing import DegreeTest, proves_secrets
from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import Event, StageClosed
from protocol.graph import Neighbourhoods
from protocol.group import POINT_SIZE
from protocol.kem import is_kem_key
from protocol.keys import PublicKeys, key_transcript, share_transcript
from protocol.merkle import root_of
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    Envelope,
    KeyDirectory,
    MaskedInput,
    RoundAnnouncement,
    ShareDelivery,
    ShareKeys,
    SurvivorList,
    seal,
)
from protocol.offers import offer_paths, offer_root, read_offers
from protocol.proofs import Proof
from protocol.server_states import (
    Advertising,
    Centre,
    Checking,
    Dealing,
    Masking,
    Planned,
    Sharing,
)
from protocol.spec import RoundSpec
from protocol.words import unpack, word_dtype

__all__ = [
    "ServerStep",
    "add_input",
    "announce",
    "check_attachment",
    "close_advertising",
    "close_masking",
    "close_sharing",
    "collect_keys",
    "collect_shares",
    "require_quorum",
    "settle_complaint",
    "stage_closed",
]

# Words unpacked at a time; a multiple of four, so that 24-bit chunks begin on a byte of their own.
_CHUNK_WORDS = 1 << 20


class ServerStep(NamedTuple):
    """Bytes for each site, and events for the driver."""

    outbound: dict[str, bytes]
    events: tuple[Event, ...]


def announce(centre: Centre, state: Planned) -> tuple[Advertising, ServerStep]:
    """R0: offer the round to the whole cohort."""
    body = RoundAnnouncement(spec=centre.spec).encode()
    message = _sealed(centre, RoundAnnouncement.LABEL, body)
    step = ServerStep(dict.fromkeys(centre.spec.cohort, message), ())
    return Advertising(keys={}, advertisements={}, offers={}), step


def collect_keys(
    centre: Centre, state: Advertising, envelope: Envelope, data: bytes
) -> tuple[Advertising, ServerStep]:
    """R0: one site's keys, refused if unsafe or already somebody's."""
    id, suite = envelope.sender, centre.spec.suite
    body = AdvertiseKeys.decode(envelope.body, peer=id, suite=suite)
    keys = PublicKeys(id=id, mask=body.mask_key, channel=body.channel_key)
    taken = {part for other in state.keys.values() for part in other.parts}
    is_new = len(set(keys.parts)) == len(keys.parts) and not taken.intersection(keys.parts)
    if not is_new or not keys.is_safe(suite):
        raise RemoteProtocolError(id, Misbehaviour.BAD_PUBLIC_KEY)
    offers: dict[str, bytes] = {}
    if suite.is_hybrid:
        offers = read_offers(envelope.attachment, peer=id, dealers=centre.spec.cohort)
        if not all(map(is_kem_key, offers.values())):
            raise RemoteProtocolError(id, Misbehaviour.BAD_PUBLIC_KEY, "offered keys")
    collected = Advertising(
        keys={**state.keys, id: keys},
        advertisements={**state.advertisements, id: envelope.without_attachment(data)},
        offers={**state.offers, id: offers},
    )
    return collected, ServerStep({}, ())


def check_attachment(spec: RoundSpec, envelope: Envelope) -> None:
    """Refuse what is attached to a message unless its body holds the hash of it.

    Before anybody is blamed for it: on its way the attachment could be changed by others.

    Raises:     RemoteProtocolError.
    """
    id, suite = envelope.sender, spec.suite
    if not suite.is_hybrid or envelope.label != AdvertiseKeys.LABEL:
        if envelope.attachment:
            raise RemoteProtocolError(id, Misbehaviour.MALFORMED, "attachment")
        return
    offers = read_offers(envelope.attachment, peer=id, dealers=spec.cohort)
    body = AdvertiseKeys.decode(envelope.body, peer=id, suite=suite)
    if offer_root(offers) != body.channel_key[POINT_SIZE:]:
        raise RemoteProtocolError(id, Misbehaviour.BAD_SIGNATURE, "attachment")


def close_advertising(centre: Centre, state: Advertising) -> tuple[Sharing, ServerStep]:
    """R0 -> R1: U1 is who advertised; send everybody's keys to everybody."""
    members = require_quorum(centre, state.keys, retry_allowed=True)
    h1 = key_transcript([state.keys[id] for id in members], context=centre.context)
    graph = Neighbourhoods(members, degree=centre.spec.degree, h1=h1)
    dealing = Dealing(
        keys={id: state.keys[id] for id in members},
        advertisements={id: state.advertisements[id] for id in members},
        h1=h1,
        graph=graph,
        degree_tests=_degree_tests(centre, graph, members),
    )
    closed = stage_closed("advertise", expected=centre.spec.cohort, answered=members)
    step = ServerStep(_directories(centre, state, members), (closed,))
    return Sharing(dealing=dealing, dealt={}), step


def _directories(centre: Centre, state: Advertising, members: tuple[str, ...]) -> dict[str, bytes]:
    """Everybody's keys for each of ``members``; in the hybrid suite with the offers for it."""
    advertisements = tuple(state.advertisements[id] for id in members)
    if not centre.spec.suite.is_hybrid:
        body = KeyDirectory(advertisements=advertisements).encode()
        return dict.fromkeys(members, _sealed(centre, KeyDirectory.LABEL, body))
    paths = {id: offer_paths(state.offers[id]) for id in members}
    outbound = {}
    for receiver in members:
        offers = tuple(
            (state.offers[id].get(receiver, b""), paths[id].get(receiver, b"")) for id in members
        )
        body = KeyDirectory(advertisements=advertisements, offers=offers).encode()
        outbound[receiver] = _sealed(centre, KeyDirectory.LABEL, body)
    return outbound


def collect_shares(
    centre: Centre, state: Sharing, envelope: Envelope, data: bytes
) -> tuple[Sharing, ServerStep]:
    """R1: one dealer's sealed shares, exactly one for each of its holders, and proven.

    Raises:     RemoteProtocolError(BAD_DEALING) where the proof fails: the dealer stays out of U2,
                so that no mask and no sum ever depends on its shares.
    """
    id = envelope.sender
    holders = state.dealing.graph.holders(id)
    body = ShareKeys.decode(
        envelope.body, peer=id, max_shares=len(holders), suite=centre.spec.suite
    )
    if body.head.h1 != state.dealing.h1:
        raise RemoteProtocolError(id, Misbehaviour.FOREIGN_CONTEXT, "h1 of the shares")
    if tuple(share.holder for share in body.shares) != holders:
        raise RemoteProtocolError(id, Misbehaviour.BAD_MEMBER_SET, "holders of the shares")
    _check_dealing(centre, state.dealing, dealer=id, dealt=body)
    collected = Sharing(dealing=state.dealing, dealt={**state.dealt, id: body})
    return collected, ServerStep({}, ())


def close_sharing(centre: Centre, state: Sharing) -> tuple[Masking, ServerStep]:
    """R1 -> R2: U2 is who dealt; deliver to each of them what it is to hold."""
    dealers = require_quorum(centre, state.dealt, retry_allowed=True)
    by_holder = {dealer: state.dealt[dealer].deliveries(dealer) for dealer in dealers}
    outbound = {}
    for receiver in dealers:
        shares = tuple(
            by_holder[dealer][receiver]
            for dealer in state.dealing.graph.of(receiver)
            if dealer in by_holder
        )
        body = ShareDelivery(dealers=dealers, shares=shares).encode()
        outbound[receiver] = _sealed(centre, ShareDelivery.LABEL, body)
    masking = Masking(
        dealing=state.dealing,
        dealt={dealer: state.dealt[dealer] for dealer in dealers},
        h2=share_transcript(state.dealing.h1, ids=dealers),
        accumulator=np.zeros(centre.spec.total_words, dtype=word_dtype(centre.spec.word_bits)),
        answered=frozenset(),
    )
    closed = stage_closed("share", expected=state.dealing.keys, answered=dealers)
    return masking, ServerStep(outbound, (closed,))


def add_input(
    centre: Centre, state: Masking, envelope: Envelope, data: bytes
) -> tuple[Masking, ServerStep]:
    """R2: add one masked vector to the sum, chunk by chunk; the vector is not kept."""
    id, bits = envelope.sender, centre.spec.word_bits
    body = MaskedInput.decode(envelope.body, peer=id, size=centre.spec.masked_size)
    if body.h2 != state.h2:
        raise RemoteProtocolError(id, Misbehaviour.FOREIGN_CONTEXT, "h2 of the input")
    packed, accumulator = memoryview(body.packed), state.accumulator
    for start in range(0, accumulator.size, _CHUNK_WORDS):
        chunk = accumulator[start : start + _CHUNK_WORDS]
        first = start * bits // 8
        part = packed[first : first + chunk.size * bits // 8]
        np.add(chunk, unpack(part, word_bits=bits, num_words=chunk.size, peer=id), out=chunk)
    return dataclasses.replace(state, answered=state.answered | {id}), ServerStep({}, ())


def settle_complaint(centre: Centre, state: Masking, envelope: Envelope, data: bytes) -> NoReturn:
    """R2: the proof in a complaint says who lied.

    Raises:     SessionAborted that names the dealer: others hold its shares, so the attempt ends.
                RemoteProtocolError(FALSE_COMPLAINT) that names the accuser: the round goes on
                without its input.
    """
    accuser = envelope.sender
    complaint = Complaint.decode(envelope.body, peer=accuser, suite=centre.spec.suite)
    accused = complaint.delivered.dealer
    if accused not in state.dealt or accused not in state.dealing.graph.of(accuser):
        raise RemoteProtocolError(
            accuser, Misbehaviour.FALSE_COMPLAINT, "accuses a site that dealt it nothing"
        )
    keys, messages = state.dealing.keys, state.dealing.advertisements
    is_right = is_justified(
        complaint,
        accuser=keys[accuser],
        accused=keys[accused],
        accused_key=centre.roster.key(accused) or b"",
        context=centre.context,
        h1=state.dealing.h1,
    )
    reason = Misbehaviour.BAD_DEALING if is_right else Misbehaviour.FALSE_COMPLAINT
    proof = Proof(
        culprit=accused if is_right else accuser,
        reason=reason,
        context=centre.context,
        messages=(data, messages[accuser], messages[accused]),
    )
    if not is_right:
        raise RemoteProtocolError(accuser, reason, f"accuses {accused}", proof=proof)
    raise SessionAborted(
        AbortReason.DEALER_MISBEHAVED,
        f"{reason.value}, proven by {accuser}",
        culprits=(accused,),
        proofs=(proof,),
        retry_allowed=True,
    )


def close_masking(centre: Centre, state: Masking) -> tuple[Checking, ServerStep]:
    """R2 -> R3: U3 is whose input came; ask all of them to sign that set."""
    survivors = require_quorum(centre, state.answered, retry_allowed=True)
    body = SurvivorList(h2=state.h2, survivors=survivors).encode()
    message = _sealed(centre, SurvivorList.LABEL, body)
    checking = Checking(
        dealing=state.dealing,
        dealt=state.dealt,
        h2=state.h2,
        accumulator=state.accumulator,
        survivors=survivors,
        signatures={},
    )
    closed = stage_closed("mask", expected=state.dealt, answered=survivors)
    return checking, ServerStep(dict.fromkeys(survivors, message), (closed,))


def require_quorum(
    centre: Centre, answered: Iterable[str], *, retry_allowed: bool
) -> tuple[str, ...]:
    """The sorted ids of who answered, or the end of the attempt if they are too few."""
    ids = tuple(sorted(answered))
    if len(ids) < centre.spec.quorum:
        raise SessionAborted(
            AbortReason.TOO_FEW_CLIENTS,
            f"{len(ids)} answered, {centre.spec.quorum} are needed",
            retry_allowed=retry_allowed,
        )
    return ids


def stage_closed(stage: str, *, expected: Iterable[str], answered: tuple[str, ...]) -> StageClosed:
    """The event at the end of a stage."""
    missing = tuple(sorted(set(expected) - set(answered)))
    return StageClosed(stage=stage, answered=answered, missing=missing)


def _sealed(centre: Centre, label: bytes, body: bytes) -> bytes:
    return seal(centre.identity, label=label, context=centre.context, body=body)


def _degree_tests(
    centre: Centre, graph: Neighbourhoods, members: Iterable[str]
) -> dict[str, DegreeTest]:
    """One for each dealer; on the complete graph the same for all."""
    tests: dict[tuple[str, ...], DegreeTest] = {}
    for dealer in members:
        holders = graph.holders(dealer)
        if holders not in tests and len(holders) >= centre.spec.threshold:
            points = [centre.points[holder] for holder in holders]
            tests[holders] = DegreeTest(points, threshold=centre.spec.threshold)
    return {
        dealer: tests[graph.holders(dealer)] for dealer in members if graph.holders(dealer) in tests
    }


def _check_dealing(centre: Centre, dealing: Dealing, *, dealer: str, dealt: ShareKeys) -> None:
    head, test = dealt.head, dealing.degree_tests.get(dealer)
    if test is None:
        raise RemoteProtocolError(dealer, Misbehaviour.BELOW_QUORUM, "deals to too few holders")
    of_mask = test.passes(head.mask_key_response, [s.mask_key_response for s in dealt.shares])
    of_self = test.passes(head.self_mask_response, [s.self_mask_response for s in dealt.shares])
    root = root_of([share.encode() for share in dealt.shares])
    key = centre.roster.key(dealer) or b""
    needs_capsule = {h for h in dealing.graph.of(dealer) if dealer < h and head.suite.is_hybrid}
    for passes, what in (
        ({s.holder for s in dealt.shares if s.capsule} == needs_capsule, "capsules"),
        (of_mask and of_self, "responses on no polynomial of the degree"),
        (root == head.root, "root of the items"),
        (head.is_signed_by(key, dealer=dealer, context=centre.context), "signature of the head"),
        (
            proves_secrets(
                dealt,
                context=centre.context,
                dealer=dealer,
                mask_point=dealing.keys[dealer].mask,
            ),
            "proof of the secrets",
        ),
    ):
        if not passes:
            raise RemoteProtocolError(dealer, Misbehaviour.BAD_DEALING, what)
