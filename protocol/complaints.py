"""A complaint about a dealt share, and the proof in it that settles who lied.

The accuser shows what the dealer signed for it and the secret point of their channel, with a proof
that it is that point. Everybody can then open the sealed shares and see whether they fit: if not,
the dealer lied; if they do, or anything in the complaint is false, the accuser did.

An honest site complains only about an item that the dealer provably signed, and an honest dealer's
items fit. So an honest pair's channel is never shown, whatever the server delivers, and what is
shown of an honest dealer's shares are those of liars, which the attacker has anyhow.

In the hybrid suite the accuser also shows the seed of the encapsulation key that it offered to this
dealer alone, or, about a capsule, the seed of its mask key: that key is given up when a site leaves
the round in any case, and the accuser leaves it.

Source: Chaum and Pedersen (1992), for the equality of two discrete logarithms, made
non-interactive by a hash.
"""

from __future__ import annotations

import hashlib

from protocol import labels
from protocol.capsule import Capsule, Ends, PairSecret
from protocol.commitments import ShareKind
from protocol.dealing import share_fits
from protocol.encoding import encode, encode_text
from protocol.entropy import Entropy
from protocol.group import (
    POINT_SIZE,
    SCALAR_SIZE,
    difference,
    is_point,
    multiple,
    public_point,
    read_scalar,
    write_scalar,
)
from protocol.kem import CIPHERTEXT_SIZE, decapsulate, kem_key
from protocol.keys import KeyPair, PublicKeys, channel_key_from
from protocol.messages.dealing import DeliveredShare
from protocol.messages.from_client import Complaint
from protocol.offers import is_offered
from protocol.own_keys import ChannelKeys, MaskKeys
from protocol.shamir import random_elements
from protocol.transport import SEALED_SIZE, associated_data, open_shares

__all__ = [
    "encapsulated",
    "fitting_shares",
    "is_justified",
    "make_capsule_complaint",
    "make_complaint",
    "opened_capsule",
]

# No point of the group: such a complaint is about the capsule.
_NO_POINT = bytes(POINT_SIZE)


def fitting_shares(
    delivered: DeliveredShare, *, key: bytes, context: bytes
) -> tuple[bytes, bytes] | None:
    """The pair of shares under ``key``, or None where it does not open or does not fit."""
    item, head, dealer = delivered.item, delivered.head, delivered.dealer
    bound = [item.mask_key_commitment, item.self_mask_commitment, head.self_mask_point]
    associated = associated_data(
        h1=head.h1,
        sender=dealer,
        receiver=item.holder,
        commitments=[*bound, item.capsule] if item.suite.is_hybrid else bound,
        suite=item.suite,
    )
    opened = open_shares(key, sealed=item.sealed[-SEALED_SIZE:], associated=associated)
    if opened is None:
        return None
    kinds = (ShareKind.MASK_KEY, ShareKind.SELF_MASK)
    fits = all(
        share_fits(share, item=item, head=head, context=context, dealer=dealer, kind=kind)
        for share, kind in zip(opened, kinds, strict=True)
    )
    return opened if fits else None


def encapsulated(delivered: DeliveredShare, *, kem_seed: bytes) -> PairSecret:
    """What the dealer encapsulated to the holder's offer, in the hybrid suite."""
    ciphertext = delivered.item.sealed[:CIPHERTEXT_SIZE]
    return PairSecret(secret=decapsulate(kem_seed, ciphertext), ciphertext=ciphertext)


def opened_capsule(delivered: DeliveredShare, *, kem_seed: bytes) -> PairSecret | None:
    """The pair secret that the dealer has for its holder; None where there is none that fits."""
    item = delivered.item
    if not item.capsule:
        return None
    ends = Ends(maker=delivered.dealer, opener=item.holder, h1=delivered.head.h1)
    capsule = Capsule.decode(item.capsule, peer=delivered.dealer)
    return capsule.opened_by_seed(kem_seed, ends=ends)


def make_complaint(
    delivered: DeliveredShare,
    *,
    channel: KeyPair,
    accused: PublicKeys,
    context: bytes,
    entropy: Entropy,
) -> Complaint:
    """The accuser's complaint about ``delivered``, which must be signed by its dealer."""
    shared = channel.exchange(accused.channel[:POINT_SIZE])
    nonce = random_elements(1, entropy=entropy)[0]
    challenge = _challenge(
        context,
        delivered=delivered,
        statement=[channel.public, accused.channel[:POINT_SIZE], shared],
        nonce_points=[
            public_point(write_scalar(nonce)),
            multiple(write_scalar(nonce), accused.channel[:POINT_SIZE]),
        ],
    )
    response = nonce + int.from_bytes(challenge, "little") * int.from_bytes(
        channel.secret, "little"
    )
    opening, path = b"", b""
    if isinstance(channel, ChannelKeys) and delivered.item.suite.is_hybrid:
        opening, path = channel.kem_seed_for(accused.id), channel.path_to(accused.id)
    return Complaint(
        delivered=delivered,
        shared_point=shared,
        challenge=challenge,
        response=write_scalar(response),
        opening=opening,
        path=path,
    )


def make_capsule_complaint(delivered: DeliveredShare, *, mask: MaskKeys) -> Complaint:
    """The accuser's complaint about the capsule in ``delivered``; only in the hybrid suite."""
    return Complaint(
        delivered=delivered,
        shared_point=_NO_POINT,
        challenge=bytes(SCALAR_SIZE),
        response=bytes(SCALAR_SIZE),
        opening=mask.kem_seed,
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

    ``accused_key`` is the accused's public key in the roster.
    """
    delivered = complaint.delivered
    if not delivered.is_dealt(holder=accuser.id, public_key=accused_key, context=context, h1=h1):
        return False
    if delivered.item.suite.is_hybrid and complaint.shared_point == _NO_POINT:
        return _has_bad_capsule(complaint, accuser=accuser, accused=accused)
    if not _is_shared(complaint, accuser=accuser, accused=accused, context=context):
        return False
    if not _is_offered(complaint, accuser=accuser, accused=accused):
        return False
    extra = None
    if delivered.item.suite.is_hybrid:
        extra = encapsulated(delivered, kem_seed=complaint.opening)
    key = channel_key_from(
        complaint.shared_point, sender=accused, receiver=accuser, h1=h1, extra=extra
    )
    return fitting_shares(delivered, key=key, context=context) is None


def _has_bad_capsule(complaint: Complaint, *, accuser: PublicKeys, accused: PublicKeys) -> bool:
    """Whether the accuser's mask key does not open the capsule; there is one for the higher id."""
    if accuser.id < accused.id or kem_key(complaint.opening) != accuser.mask[POINT_SIZE:]:
        return False
    return opened_capsule(complaint.delivered, kem_seed=complaint.opening) is None


def _is_offered(complaint: Complaint, *, accuser: PublicKeys, accused: PublicKeys) -> bool:
    """Whether the seed makes the encapsulation key that the accuser offered to this dealer."""
    if not complaint.delivered.item.suite.is_hybrid:
        return True
    return is_offered(
        kem_key(complaint.opening),
        dealer=accused.id,
        root=accuser.channel[POINT_SIZE:],
        path=complaint.path,
    )


def _is_shared(
    complaint: Complaint, *, accuser: PublicKeys, accused: PublicKeys, context: bytes
) -> bool:
    """Whether the accuser's channel secret leads to the point that it shows."""
    shared, challenge, response = complaint.shared_point, complaint.challenge, complaint.response
    mine, theirs = accuser.channel[:POINT_SIZE], accused.channel[:POINT_SIZE]
    if not is_point(shared) or read_scalar(challenge) is None or read_scalar(response) is None:
        return False
    try:
        nonce_points = [
            difference(public_point(response), multiple(challenge, mine)),
            difference(multiple(response, theirs), multiple(challenge, shared)),
        ]
    except ValueError:
        return False
    return challenge == _challenge(
        context,
        delivered=complaint.delivered,
        statement=[mine, theirs, shared],
        nonce_points=nonce_points,
    )


def _challenge(
    context: bytes, *, delivered: DeliveredShare, statement: list[bytes], nonce_points: list[bytes]
) -> bytes:
    ends = [encode_text(delivered.dealer), encode_text(delivered.item.holder)]
    label = delivered.item.suite.label(labels.COMPLAINT_CHALLENGE)
    fields = [label, context, *ends, encode(statement), encode(nonce_points)]
    return write_scalar(int.from_bytes(hashlib.sha512(encode(fields)).digest(), "little"))
