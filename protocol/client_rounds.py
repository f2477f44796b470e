"""A site's steps from R2 on: mask the input, sign the survivors, reveal shares, take the result.

Invariant above all: nobody reveals both the self-mask share and the mask-key share of one dealer.
Which share of whom may leave is decided once, from the site's own sets, when it signs U3; the
other half is dropped at that moment, so that no later message can ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.client_setup import ClientStep
from protocol.client_states import Finished, Masked, Shared, Signed, Site, Unmasked
from protocol.commitments import ShareKind
from protocol.complaints import (
    encapsulated,
    fitting_shares,
    make_capsule_complaint,
    make_complaint,
    opened_capsule,
)
from protocol.counter import SentInput
from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import (
    AttemptEnded,
    InputMasked,
    RoundFinished,
    SharesRevealed,
    SurvivorsSigned,
)
from protocol.group import POINT_SIZE
from protocol.identity import SERVER, verify_signature
from protocol.keys import channel_key_from, pair_key, self_key, share_transcript
from protocol.masked import masked_bytes
from protocol.messages import (
    Complaint,
    ConsistencyCheck,
    DeliveredShare,
    Envelope,
    MaskedInput,
    RevealedShare,
    RoundResult,
    ShareDelivery,
    SignatureQuorum,
    SurvivorList,
    Unmask,
    consistency_bytes,
    seal,
)
from protocol.session import Aborted
from protocol.transcript import transcript_hash

__all__ = ["finish", "mask_input", "reveal_shares", "sign_survivors"]


def mask_input(
    site: Site, state: Shared, envelope: Envelope
) -> tuple[Masked | Aborted, ClientStep]:
    """R2: open every share, then send the input under all masks; or complain and leave."""
    spec, me = state.spec, site.identity.id
    delivery = ShareDelivery.decode(
        envelope.body, peer=SERVER, max_members=len(state.members), suite=spec.suite
    )
    dealers = delivery.dealers
    _check_set(dealers, within=state.members, own_id=me, quorum=spec.quorum)
    neighbours = tuple(v for v in state.graph.of(me) if v in set(dealers))
    if tuple(share.dealer for share in delivery.shares) != neighbours:
        raise RemoteProtocolError(SERVER, Misbehaviour.BAD_MEMBER_SET, "delivered shares")
    _check_neighbours(state, neighbours)
    held = {} if state.own_shares is None else {me: state.own_shares}
    pair_secrets = dict(state.pair_secrets)
    for share in delivery.shares:
        opened = _open(site, state, share)
        if opened is None:
            return _complain(site, state, _about_shares(site, state, share))
        held[share.dealer] = opened
        if spec.suite.is_hybrid and share.dealer < me:
            secret = opened_capsule(share, kem_seed=state.mask_pair.kem_seed)
            if secret is None:
                complaint = make_capsule_complaint(share, mask=state.mask_pair)
                return _complain(site, state, complaint)
            pair_secrets[share.dealer] = secret
    _record_input(site, state)
    h2 = share_transcript(state.h1, ids=dealers)
    masks = [(self_key(state.self_secret, id=me, h2=h2, suite=spec.suite), 1)]
    for v in neighbours:
        # The lower id adds and the higher one subtracts, so that the pair cancels in the sum.
        key = pair_key(
            state.mask_pair, own_id=me, peer=state.members[v], h2=h2, extra=pair_secrets.get(v)
        )
        masks.append((key, 1 if me < v else -1))
    packed = masked_bytes(
        state.vector, masks, word_bits=spec.word_bits, num_threads=site.num_threads
    )
    outbound = seal(
        site.identity,
        label=MaskedInput.LABEL,
        context=state.context,
        body=MaskedInput(h2=h2, packed=packed).parts(),
    )
    masked = Masked(
        spec=spec,
        context=state.context,
        h2=h2,
        dealers=dealers,
        neighbours=frozenset(neighbours),
        held=held,
    )
    return masked, ClientStep(outbound, (InputMasked(members=dealers),))


def sign_survivors(site: Site, state: Masked, envelope: Envelope) -> tuple[Signed, ClientStep]:
    """R3: sign U3, once per round for ever, and drop the shares that U3 forbids to reveal."""
    spec, me = state.spec, site.identity.id
    listed = SurvivorList.decode(envelope.body, peer=SERVER, max_members=len(state.dealers))
    survivors = listed.survivors
    if listed.h2 != state.h2:
        raise RemoteProtocolError(SERVER, Misbehaviour.FOREIGN_CONTEXT, "h2 of the survivor list")
    _check_set(survivors, within=state.dealers, own_id=me, quorum=spec.quorum)
    alive = set(survivors)
    if spec.degree and len(state.neighbours & alive) < spec.threshold:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM, "surviving neighbours")
    reveal = tuple(
        RevealedShare(
            dealer=dealer,
            kind=ShareKind.SELF_MASK if dealer in alive else ShareKind.MASK_KEY,
            share=of_self if dealer in alive else of_mask,
        )
        for dealer, (of_mask, of_self) in sorted(state.held.items())
    )
    # Durable before the signature exists: a crash in between costs the round, not the privacy.
    if not site.counter.record_signed_round(spec.round, survivors):
        raise SessionAborted(AbortReason.ROUND_ALREADY_SIGNED, f"round {spec.round}")
    body = ConsistencyCheck(h2=state.h2, survivors=survivors).encode()
    outbound = seal(site.identity, label=ConsistencyCheck.LABEL, context=state.context, body=body)
    signed = Signed(
        spec=spec, context=state.context, h2=state.h2, survivors=survivors, reveal=reveal
    )
    return signed, ClientStep(outbound, (SurvivorsSigned(survivors=survivors),))


def reveal_shares(site: Site, state: Signed, envelope: Envelope) -> tuple[Unmasked, ClientStep]:
    """R4: only against a quorum of distinct valid signatures over the very same U3."""
    quorum = SignatureQuorum.decode(
        envelope.body, peer=SERVER, max_members=len(state.survivors), suite=state.spec.suite
    )
    survivors = set(state.survivors)
    signers = [id for id, _ in quorum.signatures]
    if signers != sorted(set(signers)) or not survivors.issuperset(signers):
        raise RemoteProtocolError(SERVER, Misbehaviour.BAD_MEMBER_SET, "signers")
    if len(signers) < state.spec.quorum:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM, "signatures")
    signed = consistency_bytes(context=state.context, h2=state.h2, survivors=state.survivors)
    for id, signature in quorum.signatures:
        message = signed(id)
        key = site.roster.key(id) or b""
        if not verify_signature(key, signature=signature, message=message):
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_SIGNATURE, f"survivors by {id}")
    outbound = seal(
        site.identity,
        label=Unmask.LABEL,
        context=state.context,
        body=Unmask(h2=state.h2, shares=state.reveal).encode(),
    )
    unmasked = Unmasked(
        spec=state.spec, context=state.context, h2=state.h2, survivors=state.survivors
    )
    return unmasked, ClientStep(outbound, (SharesRevealed(),))


def finish(site: Site, state: Signed | Unmasked, envelope: Envelope) -> tuple[Finished, ClientStep]:
    """R5: take the transcript that the next round's context must name."""
    result = RoundResult.decode(envelope.body, peer=SERVER, max_members=len(state.survivors))
    if result.h2 != state.h2 or result.survivors != state.survivors:
        raise RemoteProtocolError(SERVER, Misbehaviour.EQUIVOCATION, "result over another set")
    event = RoundFinished(
        survivors=result.survivors,
        sum_digest=result.sum_digest,
        transcript_hash=transcript_hash(
            context=state.context,
            h2=result.h2,
            survivors=result.survivors,
            digest=result.sum_digest,
        ),
    )
    return Finished(context=state.context), ClientStep(b"", (event,))


def _check_set(
    ids: tuple[str, ...],
    *,
    within: Mapping[str, object] | tuple[str, ...],
    own_id: str,
    quorum: int,
) -> None:
    """A set that the server names must lie in the last one, hold us, and reach the quorum."""
    if not set(within).issuperset(ids):
        raise RemoteProtocolError(SERVER, Misbehaviour.BAD_MEMBER_SET, "members never seen")
    if own_id not in ids:
        raise RemoteProtocolError(SERVER, Misbehaviour.OWN_ENTRY_CHANGED, "left out")
    if len(ids) < quorum:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM)


def _record_input(site: Site, state: Shared) -> None:
    """Before any mask is added: may an input leave in this attempt too, beside earlier ones?"""
    spec = state.spec
    sent = SentInput(
        context=state.context,
        cohort=spec.cohort,
        quorum=spec.quorum,
        num_colluders=spec.num_colluders,
    )
    earlier = site.counter.record_sent_input(spec.round, sent)
    if spec.round <= site.counter.last_signed_round():
        raise SessionAborted(AbortReason.ROUND_ALREADY_SIGNED, f"round {spec.round}")
    for before in earlier:
        if before.context == sent.context:
            raise SessionAborted(AbortReason.INPUT_ALREADY_SENT, f"round {spec.round}")
        if not sent.excludes_second_sum(before):
            raise SessionAborted(
                AbortReason.ATTEMPTS_OVERLAP, f"round {spec.round}", retry_allowed=True
            )


def _check_neighbours(state: Shared, neighbours: tuple[str, ...]) -> None:
    # On a sparse graph, a site whose neighbours all "dropped" would stand alone.
    if state.spec.degree and len(neighbours) < state.spec.threshold:
        raise RemoteProtocolError(SERVER, Misbehaviour.BELOW_QUORUM, "neighbours")


def _open(site: Site, state: Shared, share: DeliveredShare) -> tuple[bytes, bytes] | None:
    """Both shares from one dealer, or None where what it signed cannot be used.

    Raises:     RemoteProtocolError that names the server, for anything that the dealer did not
                sign: a complaint shows the channel's secret point, never over what others made.
    """
    me, dealer = site.identity.id, share.dealer
    if not share.is_dealt(
        holder=me,
        public_key=site.roster.key(dealer) or b"",
        context=state.context,
        h1=state.h1,
    ):
        raise RemoteProtocolError(SERVER, Misbehaviour.BAD_SIGNATURE, f"share of {dealer}")
    sender, extra = state.members[dealer], None
    if state.spec.suite.is_hybrid:
        extra = encapsulated(share, kem_seed=state.channel_pair.kem_seed_for(dealer))
    key = channel_key_from(
        state.channel_pair.exchange(sender.channel[:POINT_SIZE]),
        sender=sender,
        receiver=state.members[me],
        h1=state.h1,
        extra=extra,
    )
    return fitting_shares(share, key=key, context=state.context)


def _about_shares(site: Site, state: Shared, share: DeliveredShare) -> Complaint:
    return make_complaint(
        share,
        channel=state.channel_pair,
        accused=state.members[share.dealer],
        context=state.context,
        entropy=site.entropy,
    )


def _complain(site: Site, state: Shared, complaint: Complaint) -> tuple[Aborted, ClientStep]:
    """Prove to the server what the dealer did and drop everything: nothing was masked yet."""
    dealer = complaint.delivered.dealer
    outbound = seal(
        site.identity, label=Complaint.LABEL, context=state.context, body=complaint.encode()
    )
    aborted = Aborted(
        reason=AbortReason.DEALER_MISBEHAVED,
        detail=Misbehaviour.BAD_DEALING.value,
        culprits=(dealer,),
        retry_allowed=True,
    )
    event = AttemptEnded(reason=aborted.reason, culprit=dealer)
    return aborted, ClientStep(outbound, (event,))
