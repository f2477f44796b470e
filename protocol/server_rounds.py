"""The server's steps R3 to R5: a quorum of signatures, revealed shares, the sum."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.capsule import PairSecret
from protocol.commitments import ShareKind
from protocol.dealing import share_fits
from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import RoundCompleted
from protocol.group import public_point
from protocol.keys import pair_key, self_key
from protocol.masks import add_masks
from protocol.messages import (
    ConsistencyCheck,
    DeliveredShare,
    Envelope,
    RoundResult,
    ShareKeys,
    SignatureQuorum,
    Unmask,
    seal,
)
from protocol.own_keys import MaskKeys
from protocol.proofs import Proof
from protocol.rebuilt import RebuiltSecret, pair_secret
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

    Raises:     RemoteProtocolError(BAD_SHARE) that names the holder: what it was dealt it has
                accepted as fitting, so a mismatch is the holder's lie.
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
        dealt = state.dealt[share.dealer]
        item = next(item for item in dealt.shares if item.holder == holder)
        if not share_fits(
            share.share,
            item=item,
            head=dealt.head,
            context=centre.context,
            dealer=share.dealer,
            kind=kind,
        ):
            raise RemoteProtocolError(
                holder,
                Misbehaviour.BAD_SHARE,
                f"share of {share.dealer}",
                proof=_proof_of_wrong_share(centre, share.dealer, dealt, data=data, holder=holder),
            )
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
                suite = self._centre.spec.suite
                key = self_key(self._self_secret(dealer), id=dealer, h2=state.h2, suite=suite)
                masks.append((key, -1))
            else:
                masks.extend(self._pair_masks(dealer))
        return masks

    def _self_secret(self, dealer: str) -> bytes:
        secret = self._rebuild(dealer)
        point = self._state.dealt[dealer].head.self_mask_point
        if point and public_point(secret) != point:
            raise AssertionError("a proven dealing must rebuild its secret")
        return secret

    def _pair_masks(self, dealer: str) -> list[tuple[bytes, int]]:
        dealing, h2, spec = self._state.dealing, self._state.h2, self._centre.spec
        alive = [u for u in dealing.graph.of(dealer) if u in self._survivors]
        if not alive:
            return []
        own = MaskKeys(self._rebuild(dealer), suite=spec.suite, context=self._centre.context)
        if own.advertised != dealing.keys[dealer].mask:
            if not spec.suite.is_hybrid:
                raise AssertionError("a proven dealing must rebuild its secret")
            raise self._convict(dealer, culprit=dealer, capsule=None)
        # u added the pair's mask if it is the lower id; the server does the opposite.
        return [
            (
                pair_key(
                    own,
                    own_id=dealer,
                    peer=dealing.keys[u],
                    h2=h2,
                    extra=self._pair_secret(dealer, u, own),
                ),
                -1 if u < dealer else 1,
            )
            for u in alive
        ]

    def _pair_secret(self, dealer: str, other: str, own: MaskKeys) -> PairSecret | None:
        """What the lower of the two encapsulated, from the rebuilt keys of ``dealer``."""
        if not self._centre.spec.suite.is_hybrid:
            return None
        maker, opener = sorted([dealer, other])
        dealt = self._state.dealt[maker]
        item = next(item for item in dealt.shares if item.holder == opener)
        found = pair_secret(
            DeliveredShare(dealer=maker, head=dealt.head, item=item, path=b""), keys=own, id=dealer
        )
        if found is None:
            capsule = dealt.deliveries(maker)[opener]
            raise self._convict(dealer, culprit=maker, capsule=capsule)
        return found

    def _convict(
        self, dealer: str, *, culprit: str, capsule: DeliveredShare | None
    ) -> SessionAborted:
        """The end of the attempt: what ``dealer`` shared does not agree with what was signed."""
        items = self._state.dealt[dealer].deliveries(dealer)
        found = RebuiltSecret(
            spec=self._centre.spec,
            advertisement=self._state.dealing.advertisements[dealer],
            shares=[(items[h], self._state.revealed[h][dealer]) for h in self._chosen(dealer)],
            capsule=capsule,
        )
        proof = Proof(
            culprit=culprit,
            reason=Misbehaviour.BAD_REBUILD,
            context=self._centre.context,
            messages=found.messages(),
        )
        return SessionAborted(
            AbortReason.DEALER_MISBEHAVED,
            proof.reason.value,
            culprits=(culprit,),
            proofs=(proof,),
        )

    def _chosen(self, dealer: str) -> tuple[str, ...]:
        """The holders whose shares are used."""
        revealed, threshold = self._state.revealed, self._centre.spec.threshold
        holders = [h for h in self._state.dealing.graph.holders(dealer) if h in revealed]
        if len(holders) < threshold:
            raise SessionAborted(
                AbortReason.TOO_FEW_CLIENTS,
                f"{len(holders)} shares of {dealer}, {threshold} are needed",
            )
        return tuple(holders[:threshold])

    def _rebuild(self, dealer: str) -> bytes:
        """The secret that the fitting shares of a proven dealing make."""
        chosen = self._chosen(dealer)
        if chosen not in self._weights:
            points = [self._centre.points[h] for h in chosen]
            self._weights[chosen] = dict(zip(points, lagrange_at_zero(points), strict=True))
        shares = {self._centre.points[h]: self._state.revealed[h][dealer] for h in chosen}
        secret = combine(shares, weights=self._weights[chosen])
        if secret is None:
            raise AssertionError("shares that fit are field elements")
        return secret


def _proof_of_wrong_share(
    centre: Centre, dealer: str, dealt: ShareKeys, *, data: bytes, holder: str
) -> Proof:
    """The holder's signed answer beside what the dealer had signed for it."""
    return Proof(
        culprit=holder,
        reason=Misbehaviour.BAD_SHARE,
        context=centre.context,
        messages=(data, dealt.deliveries(dealer)[holder].encode()),
    )
