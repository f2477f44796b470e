"""The server's steps R3 to R5: a quorum of signatures, revealed shares, the sum."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.commitments import ShareKind, opens, seed_commitment, share_commitment
from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import RoundCompleted
from protocol.keys import X25519Pair, pair_key, self_key
from protocol.masks import add_masks
from protocol.messages import (
    ConsistencyCheck,
    Envelope,
    RoundResult,
    ShareKeys,
    SignatureQuorum,
    Unmask,
    seal,
)
from protocol.server_setup import ServerStep, require_quorum, stage_closed
from protocol.server_states import Centre, Checking, Completed, Unmasking
from protocol.shamir import combine, lagrange_at_zero
from protocol.transcript import sum_digest, transcript_hash
from protocol.words import centre as centred

__all__ = ["close_checking", "close_unmasking", "collect_signature", "collect_unmask"]


def collect_signature(
    centre: Centre, state: Checking, envelope: Envelope, data: bytes
) -> tuple[Checking, ServerStep]:
    """R3: one survivor's signature, if it is over the set that was sent out."""
    expected = ConsistencyCheck(h2=state.h2, survivors=state.survivors).encode()
    if envelope.body != expected:
        raise RemoteProtocolError(
            envelope.sender, Misbehaviour.EQUIVOCATION, "signed another survivor set"
        )
    signatures = {**state.signatures, envelope.sender: envelope.signature}
    return dataclasses.replace(state, signatures=signatures), ServerStep({}, ())


def close_checking(centre: Centre, state: Checking) -> tuple[Unmasking, ServerStep]:
    """R3 -> R4: show the signatures to those who signed and ask for their shares."""
    signers = require_quorum(centre, state.signatures, retry_allowed=False)
    body = SignatureQuorum(signatures=tuple((id, state.signatures[id]) for id in signers)).encode()
    message = seal(centre.identity, label=SignatureQuorum.LABEL, context=centre.context, body=body)
    unmasking = Unmasking(
        dealing=state.dealing,
        dealt=state.dealt,
        h2=state.h2,
        accumulator=state.accumulator,
        survivors=state.survivors,
        signers=signers,
        revealed={},
    )
    closed = stage_closed("check", expected=state.survivors, answered=signers)
    return unmasking, ServerStep(dict.fromkeys(signers, message), (closed,))


def collect_unmask(
    centre: Centre, state: Unmasking, envelope: Envelope, data: bytes
) -> tuple[Unmasking, ServerStep]:
    """R4: one holder's shares, each of the right kind and as its dealer committed to it.

    Raises:     RemoteProtocolError(BAD_SHARE) that names the holder: dealers are bound by their
                signed commitments, so a mismatch is the holder's lie.
    """
    holder = envelope.sender
    body = Unmask.decode(envelope.body, peer=holder, max_shares=len(state.dealt))
    if body.h2 != state.h2:
        raise RemoteProtocolError(holder, Misbehaviour.FOREIGN_CONTEXT, "h2 of the shares")
    graph, survivors = state.dealing.graph, set(state.survivors)
    expected = tuple(d for d in sorted(state.dealt) if holder in graph.holders(d))
    if tuple(share.dealer for share in body.shares) != expected:
        raise RemoteProtocolError(holder, Misbehaviour.BAD_MEMBER_SET, "dealers of the shares")
    for share in body.shares:
        kind = ShareKind.SELF_MASK if share.dealer in survivors else ShareKind.MASK_KEY
        if share.kind is not kind:
            raise RemoteProtocolError(
                holder, Misbehaviour.BAD_SHARE, f"wrong kind of share of {share.dealer}"
            )
        computed = share_commitment(
            share.share, context=centre.context, dealer=share.dealer, holder=holder, kind=kind
        )
        committed = _commitment(state.dealt[share.dealer], holder=holder, kind=kind)
        if not opens(committed, computed):
            raise RemoteProtocolError(holder, Misbehaviour.BAD_SHARE, f"share of {share.dealer}")
    shares = {share.dealer: share.share for share in body.shares}
    revealed = {**state.revealed, holder: shares}
    return dataclasses.replace(state, revealed=revealed), ServerStep({}, ())


def close_unmasking(centre: Centre, state: Unmasking) -> tuple[Completed, ServerStep]:
    """R4 -> R5: rebuild the seeds, remove the masks, publish what was summed."""
    masks = _Recovery(centre, state).masks()
    accumulator = state.accumulator
    add_masks(accumulator, masks, num_threads=centre.num_threads)
    del masks
    spec = centre.spec
    if spec.word_bits == 24:
        np.bitwise_and(accumulator, np.uint32(0xFFFFFF), out=accumulator)
    digest = sum_digest(accumulator, word_bits=spec.word_bits)
    extra = centred(accumulator[spec.num_words :], word_bits=spec.word_bits)
    completed = RoundCompleted(
        survivors=state.survivors,
        words=accumulator[: spec.num_words],
        extra=tuple(int(value) for value in extra),
        sum_digest=digest,
        transcript_hash=transcript_hash(
            context=centre.context, h2=state.h2, survivors=state.survivors, digest=digest
        ),
    )
    body = RoundResult(h2=state.h2, survivors=state.survivors, sum_digest=digest).encode()
    message = seal(centre.identity, label=RoundResult.LABEL, context=centre.context, body=body)
    closed = stage_closed("unmask", expected=state.signers, answered=tuple(sorted(state.revealed)))
    return Completed(), ServerStep(dict.fromkeys(state.signers, message), (closed, completed))


class _Recovery:
    """Rebuilds each dealer's secret from ``threshold`` shares and lists the masks to remove."""

    def __init__(self, centre: Centre, state: Unmasking) -> None:
        self._centre = centre
        self._state = state
        self._survivors = frozenset(state.survivors)
        self._weights: dict[tuple[str, ...], dict[int, int]] = {}

    def masks(self) -> list[tuple[bytes, int]]:
        """(key, sign) of every mask that is left in the sum."""
        state = self._state
        masks = []
        for dealer in sorted(state.dealt):
            if dealer in self._survivors:
                key = self_key(self._self_seed(dealer), id=dealer, h2=state.h2)
                masks.append((key, -1))
            else:
                masks.extend(self._pair_masks(dealer))
        return masks

    def _self_seed(self, dealer: str) -> bytes:
        seed = self._rebuild(dealer)
        context = self._centre.context
        committed = self._state.dealt[dealer].seed_commitment
        if seed is None or not opens(
            committed, seed_commitment(seed, context=context, dealer=dealer)
        ):
            raise _bad_dealing(dealer)
        return seed

    def _pair_masks(self, dealer: str) -> list[tuple[bytes, int]]:
        dealing, h2 = self._state.dealing, self._state.h2
        alive = [u for u in dealing.graph.of(dealer) if u in self._survivors]
        if not alive:
            return []
        seed = self._rebuild(dealer)
        pair = seed and X25519Pair.from_mask_seed(seed, context=self._centre.context)
        if not pair or pair.public != dealing.keys[dealer].mask:
            raise _bad_dealing(dealer)
        # u added the pair's mask if it is the lower id; the server does the opposite.
        return [
            (
                pair_key(pair, own_id=dealer, peer=dealing.keys[u], h2=h2),
                -1 if u < dealer else 1,
            )
            for u in alive
        ]

    def _rebuild(self, dealer: str) -> bytes | None:
        revealed, threshold = self._state.revealed, self._centre.spec.threshold
        holders = [h for h in self._state.dealing.graph.holders(dealer) if h in revealed]
        if len(holders) < threshold:
            raise SessionAborted(
                AbortReason.TOO_FEW_CLIENTS,
                f"{len(holders)} shares of {dealer}, {threshold} are needed",
            )
        chosen = tuple(holders[:threshold])
        if chosen not in self._weights:
            points = [self._centre.points[h] for h in chosen]
            self._weights[chosen] = dict(zip(points, lagrange_at_zero(points), strict=True))
        shares = {self._centre.points[h]: revealed[h][dealer] for h in chosen}
        return combine(shares, weights=self._weights[chosen])


def _commitment(dealt: ShareKeys, *, holder: str, kind: ShareKind) -> bytes:
    for share in dealt.shares:
        if share.holder == holder:
            if kind is ShareKind.MASK_KEY:
                return share.mask_key_commitment
            return share.self_mask_commitment
    raise AssertionError("holders were checked when the shares were dealt")


def _bad_dealing(dealer: str) -> SessionAborted:
    return SessionAborted(
        AbortReason.DEALER_MISBEHAVED, Misbehaviour.BAD_DEALING.value, culprits=(dealer,)
    )
