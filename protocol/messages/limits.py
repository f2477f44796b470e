"""The largest message of each kind that a site of a round may send.

Whoever carries messages bounds by it what one site can make the server hold, before anything was
read or any signature checked. The sizes are those of messages encoded here with the longest ids of
the cohort, so that they follow the encoding.
"""

from __future__ import annotations

from protocol.capsule import CAPSULE_SIZE
from protocol.commitments import COMMITMENT_SIZE, ShareKind
from protocol.encoding import encode
from protocol.group import POINT_SIZE, SCALAR_SIZE
from protocol.identity import signature_size
from protocol.kem import KEM_KEY_SIZE, KEM_SEED_SIZE
from protocol.keys import CHANNEL_KEY_SIZES, MASK_KEY_SIZES
from protocol.merkle import HASH_SIZE, MAX_PATH_SIZE
from protocol.messages.dealing import DealingHead, DealtShare, DeliveredShare
from protocol.messages.from_client import (
    AdvertiseKeys,
    Complaint,
    ConsistencyCheck,
    MaskedInput,
    RevealedShare,
    ShareKeys,
    Unmask,
)
from protocol.shamir import SHARE_SIZE
from protocol.spec import RoundSpec
from protocol.suite import Suite
from protocol.transport import SEALED_SIZES

__all__ = ["reply_limits"]

_LENGTH_SIZE = 4
_CONTEXT_SIZE = 32
_SCALAR, _POINT, _HASH = bytes(SCALAR_SIZE), bytes(POINT_SIZE), bytes(HASH_SIZE)


def reply_limits(spec: RoundSpec) -> dict[bytes, int]:
    """Label of a message -> bytes that it has at most, envelope and signature included.

    Guarantee:  every message that an honest site of ``spec`` sends fits. Linear in the cohort, and
                for the masked input in the words.
    """
    cohort, suite = spec.cohort, spec.suite
    longest = max(cohort, key=len)
    head = DealingHead(
        h1=_HASH,
        self_mask_point=b"" if suite.is_hybrid else _POINT,
        challenge=_SCALAR,
        mask_key_response=_SCALAR,
        self_mask_response=_SCALAR,
        root=_HASH,
        signature=bytes(signature_size(suite)),
        suite=suite,
    )
    items = tuple(_item(holder, suite) for holder in cohort)
    delivered = DeliveredShare(
        dealer=longest, head=head, item=_item(longest, suite), path=bytes(MAX_PATH_SIZE)
    )
    revealed = tuple(
        RevealedShare(dealer=dealer, kind=ShareKind.MASK_KEY, share=bytes(SHARE_SIZE))
        for dealer in cohort
    )
    complaint = Complaint(
        delivered=delivered,
        shared_point=_POINT,
        challenge=_SCALAR,
        response=_SCALAR,
        opening=bytes(KEM_SEED_SIZE if suite.is_hybrid else 0),
        path=bytes(MAX_PATH_SIZE),
    )
    keys = AdvertiseKeys(
        mask_key=bytes(MASK_KEY_SIZES[suite]), channel_key=bytes(CHANNEL_KEY_SIZES[suite])
    )
    offers = encode([encode([bytes(KEM_KEY_SIZE)] * (len(cohort) - 1))])
    words = len(encode([_HASH])) + _LENGTH_SIZE + spec.masked_size
    sizes = {
        AdvertiseKeys.LABEL: len(keys.encode()) + (len(offers) if suite.is_hybrid else 0),
        ShareKeys.LABEL: len(ShareKeys(head=head, shares=items).encode()),
        MaskedInput.LABEL: words,
        Complaint.LABEL: len(complaint.encode()),
        ConsistencyCheck.LABEL: len(ConsistencyCheck(h2=_HASH, survivors=cohort).encode()),
        Unmask.LABEL: len(Unmask(h2=_HASH, shares=revealed).encode()),
    }
    overhead = signature_size(suite)
    return {label: _enveloped(label, longest, overhead) + size for label, size in sizes.items()}


def _item(holder: str, suite: Suite) -> DealtShare:
    return DealtShare(
        holder=holder,
        mask_key_commitment=bytes(COMMITMENT_SIZE),
        self_mask_commitment=bytes(COMMITMENT_SIZE),
        mask_key_response=_SCALAR,
        self_mask_response=_SCALAR,
        sealed=bytes(SEALED_SIZES[suite]),
        capsule=bytes(CAPSULE_SIZE if suite.is_hybrid else 0),
        suite=suite,
    )


def _enveloped(label: bytes, sender: str, signature: int) -> int:
    """What goes around a body."""
    head = [label, bytes(_CONTEXT_SIZE), sender.encode("ascii"), bytes(signature)]
    return len(encode(head)) + _LENGTH_SIZE
