"""The largest message of each kind that a site of a round may send.

Whoever carries messages bounds by it what one site can make the server hold, before anything was
read or any signature checked. The sizes are those of messages encoded here with the longest ids of
the cohort, so that they follow the encoding.
"""

from __future__ import annotations

from protocol.commitments import COMMITMENT_SIZE, ShareKind
from protocol.encoding import encode
from protocol.group import POINT_SIZE, SCALAR_SIZE
from protocol.identity import SIGNATURE_SIZE
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
from protocol.transport import SEALED_SIZE

__all__ = ["reply_limits"]

_LENGTH_SIZE = 4
_CONTEXT_SIZE = 32
_SCALAR, _POINT, _HASH = bytes(SCALAR_SIZE), bytes(POINT_SIZE), bytes(HASH_SIZE)


def reply_limits(spec: RoundSpec) -> dict[bytes, int]:
    """Label of a message -> bytes that it has at most, envelope and signature included.

    Guarantee:  every message that an honest site of ``spec`` sends fits. Linear in the cohort, and
                for the masked input in the words.
    """
    cohort = spec.cohort
    longest = max(cohort, key=len)
    head = DealingHead(
        h1=_HASH,
        self_mask_point=_POINT,
        challenge=_SCALAR,
        mask_key_response=_SCALAR,
        self_mask_response=_SCALAR,
        root=_HASH,
        signature=bytes(SIGNATURE_SIZE),
    )
    items = tuple(_item(holder) for holder in cohort)
    delivered = DeliveredShare(
        dealer=longest, head=head, item=_item(longest), path=bytes(MAX_PATH_SIZE)
    )
    revealed = tuple(
        RevealedShare(dealer=dealer, kind=ShareKind.MASK_KEY, share=bytes(SHARE_SIZE))
        for dealer in cohort
    )
    complaint = Complaint(
        delivered=delivered, shared_point=_POINT, challenge=_SCALAR, response=_SCALAR
    )
    words = len(encode([_HASH])) + _LENGTH_SIZE + spec.masked_size
    sizes = {
        AdvertiseKeys.LABEL: len(AdvertiseKeys(mask_key=_POINT, channel_key=_POINT).encode()),
        ShareKeys.LABEL: len(ShareKeys(head=head, shares=items).encode()),
        MaskedInput.LABEL: words,
        Complaint.LABEL: len(complaint.encode()),
        ConsistencyCheck.LABEL: len(ConsistencyCheck(h2=_HASH, survivors=cohort).encode()),
        Unmask.LABEL: len(Unmask(h2=_HASH, shares=revealed).encode()),
    }
    return {label: _enveloped(label, longest, size) for label, size in sizes.items()}


def _item(holder: str) -> DealtShare:
    return DealtShare(
        holder=holder,
        mask_key_commitment=bytes(COMMITMENT_SIZE),
        self_mask_commitment=bytes(COMMITMENT_SIZE),
        mask_key_response=_SCALAR,
        self_mask_response=_SCALAR,
        sealed=bytes(SEALED_SIZE),
    )


def _enveloped(label: bytes, sender: str, body_size: int) -> int:
    head = [label, bytes(_CONTEXT_SIZE), sender.encode("ascii"), bytes(SIGNATURE_SIZE)]
    return len(encode(head)) + _LENGTH_SIZE + body_size
