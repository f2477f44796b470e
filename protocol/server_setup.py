"""The server's steps R0 to R2: collect keys, collect shares, add up masked inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import numpy as np

from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import Event, StageClosed
from protocol.graph import Neighbourhoods
from protocol.keys import PublicKeys, is_safe_public_key, key_transcript, share_transcript
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    DealtShare,
    DeliveredShare,
    Envelope,
    KeyDirectory,
    MaskedInput,
    RoundAnnouncement,
    ShareDelivery,
    ShareKeys,
    SurvivorList,
    seal,
)
from protocol.server_states import (
    Advertising,
    Centre,
    Checking,
    Dealing,
    Masking,
    Planned,
    Sharing,
)
from protocol.words import unpack, word_dtype

__all__ = [
    "ServerStep",
    "add_input",
    "announce",
    "close_advertising",
    "close_masking",
    "close_sharing",
    "collect_keys",
    "collect_shares",
    "end_by_complaint",
    "require_quorum",
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
    return Advertising(keys={}, advertisements={}), step


def collect_keys(
    centre: Centre, state: Advertising, envelope: Envelope, data: bytes
) -> tuple[Advertising, ServerStep]:
    """R0: one site's keys, refused if unsafe or already somebody's."""
    id = envelope.sender
    body = AdvertiseKeys.decode(envelope.body, peer=id)
    new = (body.mask_key, body.channel_key)
    taken = {key for k in state.keys.values() for key in (k.mask, k.channel)}
    if new[0] == new[1] or taken.intersection(new) or not all(map(is_safe_public_key, new)):
        raise RemoteProtocolError(id, Misbehaviour.BAD_PUBLIC_KEY)
    keys = PublicKeys(id=id, mask=body.mask_key, channel=body.channel_key)
    collected = Advertising(
        keys={**state.keys, id: keys}, advertisements={**state.advertisements, id: data}
    )
    return collected, ServerStep({}, ())


def close_advertising(centre: Centre, state: Advertising) -> tuple[Sharing, ServerStep]:
    """R0 -> R1: U1 is who advertised; send everybody's keys to everybody."""
    members = require_quorum(centre, state.keys, retry_allowed=True)
    h1 = key_transcript([state.keys[id] for id in members], context=centre.context)
    dealing = Dealing(
        keys={id: state.keys[id] for id in members},
        h1=h1,
        graph=Neighbourhoods(members, degree=centre.spec.degree, h1=h1),
    )
    body = KeyDirectory(advertisements=tuple(state.advertisements[id] for id in members)).encode()
    message = _sealed(centre, KeyDirectory.LABEL, body)
    closed = stage_closed("advertise", expected=centre.spec.cohort, answered=members)
    step = ServerStep(dict.fromkeys(members, message), (closed,))
    return Sharing(dealing=dealing, dealt={}), step


def collect_shares(
    centre: Centre, state: Sharing, envelope: Envelope, data: bytes
) -> tuple[Sharing, ServerStep]:
    """R1: one dealer's sealed shares, exactly one for each of its holders."""
    id = envelope.sender
    holders = state.dealing.graph.holders(id)
    body = ShareKeys.decode(envelope.body, peer=id, max_shares=len(holders))
    if body.h1 != state.dealing.h1:
        raise RemoteProtocolError(id, Misbehaviour.FOREIGN_CONTEXT, "h1 of the shares")
    if tuple(share.holder for share in body.shares) != holders:
        raise RemoteProtocolError(id, Misbehaviour.BAD_MEMBER_SET, "holders of the shares")
    collected = Sharing(dealing=state.dealing, dealt={**state.dealt, id: body})
    return collected, ServerStep({}, ())


def close_sharing(centre: Centre, state: Sharing) -> tuple[Masking, ServerStep]:
    """R1 -> R2: U2 is who dealt; deliver to each of them what it is to hold."""
    dealers = require_quorum(centre, state.dealt, retry_allowed=True)
    by_holder = {
        dealer: {share.holder: share for share in state.dealt[dealer].shares} for dealer in dealers
    }
    outbound = {}
    for receiver in dealers:
        shares = tuple(
            _delivered(
                dealer,
                by_holder[dealer][receiver],
                seed_commitment=state.dealt[dealer].seed_commitment,
            )
            for dealer in state.dealing.graph.of(receiver)
            if dealer in by_holder
        )
        body = ShareDelivery(dealers=dealers, shares=shares).encode()
        outbound[receiver] = _sealed(centre, ShareDelivery.LABEL, body)
    masking = Masking(
        dealing=state.dealing,
        dealt={dealer: _without_ciphertexts(state.dealt[dealer]) for dealer in dealers},
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


def end_by_complaint(centre: Centre, state: Masking, envelope: Envelope, data: bytes) -> NoReturn:
    """R2: a dealer's share is unusable, or its receiver lies; the attempt cannot tell and ends."""
    complaint = Complaint.decode(envelope.body, peer=envelope.sender)
    if complaint.accused not in state.dealing.graph.of(envelope.sender):
        raise RemoteProtocolError(
            envelope.sender, Misbehaviour.BAD_MEMBER_SET, "accuses a site that dealt it nothing"
        )
    raise SessionAborted(
        AbortReason.COMPLAINT_RECEIVED,
        f"{envelope.sender} says of {complaint.accused}: {complaint.reason.value}; "
        "leave one of them out of the next attempt",
        culprits=(complaint.accused, envelope.sender),
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


def _delivered(dealer: str, share: DealtShare, *, seed_commitment: bytes) -> DeliveredShare:
    return DeliveredShare(
        dealer=dealer,
        mask_key_commitment=share.mask_key_commitment,
        self_mask_commitment=share.self_mask_commitment,
        seed_commitment=seed_commitment,
        sealed=share.sealed,
    )


def _without_ciphertexts(dealt: ShareKeys) -> ShareKeys:
    shares = tuple(dataclasses.replace(share, sealed=b"") for share in dealt.shares)
    return dataclasses.replace(dealt, shares=shares)
