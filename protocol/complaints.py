"""A complaint about a dealt share, and the proof in it that settles who lied.

The accuser shows what the dealer signed for it and the secret point of their channel, with a proof
that it is that point. Everybody can then open the sealed shares and see whether they fit: if not,
the dealer lied; if they do, or anything in the complaint is false, the accuser did.

An honest site complains only about an item that the dealer provably signed, and an honest dealer's
items fit. So an honest pair's channel is never shown, whatever the server delivers, and what is
shown of an honest dealer's shares are those of liars, which the attacker has anyhow.

Source: Chaum and Pedersen (1992), for the equality of two discrete logarithms, made
non-interactive by a hash.
"""

from __future__ import annotations

import hashlib

from protocol import labels
from protocol.commitments import ShareKind
from protocol.dealing import share_fits
from protocol.encoding import encode, encode_text
from protocol.entropy import Entropy
from protocol.group import difference, is_point, multiple, public_point, read_scalar, write_scalar
from protocol.keys import KeyPair, PublicKeys, channel_key_from
from protocol.messages.dealing import DeliveredShare
from protocol.messages.from_client import Complaint
from protocol.shamir import random_elements
from protocol.transport import associated_data, open_shares

__all__ = ["fitting_shares", "is_justified", "make_complaint"]


def fitting_shares(
    delivered: DeliveredShare, *, key: bytes, context: bytes
) -> tuple[bytes, bytes] | None:
    """The pair of shares under ``key``, or None where it does not open or does not fit."""
    item, head, dealer = delivered.item, delivered.head, delivered.dealer
    associated = associated_data(
        h1=head.h1,
        sender=dealer,
        receiver=item.holder,
        commitments=[item.mask_key_commitment, item.self_mask_commitment, head.self_mask_point],
    )
    opened = open_shares(key, sealed=item.sealed, associated=associated)
    if opened is None:
        return None
    kinds = (ShareKind.MASK_KEY, ShareKind.SELF_MASK)
    fits = all(
        share_fits(share, item=item, head=head, context=context, dealer=dealer, kind=kind)
        for share, kind in zip(opened, kinds, strict=True)
    )
    return opened if fits else None


def make_complaint(
    delivered: DeliveredShare,
    *,
    channel: KeyPair,
    accused: PublicKeys,
    context: bytes,
    entropy: Entropy,
) -> Complaint:
    """The accuser's complaint about ``delivered``, which must be signed by its dealer."""
    shared = channel.exchange(accused.channel)
    nonce = random_elements(1, entropy=entropy)[0]
    challenge = _challenge(
        context,
        delivered=delivered,
        statement=[channel.public, accused.channel, shared],
        nonce_points=[
            public_point(write_scalar(nonce)),
            multiple(write_scalar(nonce), accused.channel),
        ],
    )
    response = nonce + int.from_bytes(challenge, "little") * int.from_bytes(
        channel.secret, "little"
    )
    return Complaint(
        delivered=delivered,
        shared_point=shared,
        challenge=challenge,
        response=write_scalar(response),
    )


def is_justified(
    complaint: Complaint,
    *,
    accuser: PublicKeys,
    accused: PublicKeys,
    accused_key: bytes,
    context: bytes,
    h1: bytes,
) -> bool:
    """Whether ``accused`` signed a share that ``accuser`` cannot use; if not, the accuser lied.

    ``accused_key`` is the accused's Ed25519 key in the roster.
    """
    delivered = complaint.delivered
    if not delivered.is_dealt(
        holder=accuser.id, public_key=accused_key, context=context, h1=h1
    ) or not _is_shared(complaint, accuser=accuser, accused=accused, context=context):
        return False
    key = channel_key_from(complaint.shared_point, sender=accused, receiver=accuser, h1=h1)
    return fitting_shares(delivered, key=key, context=context) is None


def _is_shared(
    complaint: Complaint, *, accuser: PublicKeys, accused: PublicKeys, context: bytes
) -> bool:
    """Whether the accuser's channel secret leads to the point that it shows."""
    shared, challenge, response = complaint.shared_point, complaint.challenge, complaint.response
    if not is_point(shared) or read_scalar(challenge) is None or read_scalar(response) is None:
        return False
    try:
        nonce_points = [
            difference(public_point(response), multiple(challenge, accuser.channel)),
            difference(multiple(response, accused.channel), multiple(challenge, shared)),
        ]
    except ValueError:
        return False
    statement = [accuser.channel, accused.channel, shared]
    return challenge == _challenge(
        context,
        delivered=complaint.delivered,
        statement=statement,
        nonce_points=nonce_points,
    )


def _challenge(
    context: bytes, *, delivered: DeliveredShare, statement: list[bytes], nonce_points: list[bytes]
) -> bytes:
    ends = [encode_text(delivered.dealer), encode_text(delivered.item.holder)]
    fields = [labels.COMPLAINT_CHALLENGE, context, *ends, encode(statement), encode(nonce_points)]
    return write_scalar(int.from_bytes(hashlib.sha512(encode(fields)).digest(), "little"))
