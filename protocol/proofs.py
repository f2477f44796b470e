"""Proof that a site broke the protocol: its own signed messages, kept for whoever asks later.

An honest site never signs such messages, so that a proof holds against its culprit alone. Proofs of
bad dealings, false complaints and wrong shares can be checked without the session, by anybody who
holds the roster (``is_proven``). For other offences the signed message is kept; that it breaks a
rule is seen by reading it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from protocol.complaints import is_justified
from protocol.dealing import share_fits
from protocol.encoding import encode, encode_text
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.keys import PublicKeys
from protocol.messages import AdvertiseKeys, Complaint, DeliveredShare, Envelope, Unmask
from protocol.rebuilt import RebuiltSecret, culprit_of
from protocol.roster import Roster

__all__ = ["Proof", "is_proven", "is_signed"]

# A proof is read back from a file: nothing in it is larger than the list of a whole cohort.
_MAX_SIZE = 1 << 24
_MAX_SHARES = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What ``culprit`` did, in the attempt of ``context``.

    messages   its signed message; for a complaint the envelopes of the complaint and of accuser's
               and accused's keys, for a wrong share the message and what the dealer had signed
    """

    culprit: str
    reason: Misbehaviour
    context: bytes
    messages: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 that names the proof in records that do not hold it."""
        fields = [encode_text(self.culprit), encode_text(self.reason.name), self.context]
        return hashlib.sha256(encode([*fields, encode(self.messages)])).digest()


def is_proven(proof: Proof, *, roster: Roster) -> bool:
    """Whether the messages alone convict of a bad dealing, complaint, share or secret."""
    try:
        match proof.reason:
            case Misbehaviour.BAD_DEALING | Misbehaviour.FALSE_COMPLAINT:
                return _is_complaint_proven(proof, roster)
            case Misbehaviour.BAD_SHARE:
                return _is_share_proven(proof, roster)
            case Misbehaviour.BAD_REBUILD:
                found = RebuiltSecret.read(proof.messages, peer=proof.culprit)
                return culprit_of(found, context=proof.context, roster=roster) == proof.culprit
    except (RemoteProtocolError, ValueError):
        return False
    return False


def is_signed(proof: Proof, *, roster: Roster) -> bool:
    """Whether the culprit signed the first message, in the attempt that the proof names.

    Weaker than ``is_proven``: whether the message breaks a rule is for its reader to see.
    """
    try:
        return bool(proof.messages) and (
            _read(proof.messages[0], proof, roster).sender == proof.culprit
        )
    except (RemoteProtocolError, ValueError):
        return False


def _is_complaint_proven(proof: Proof, roster: Roster) -> bool:
    if len(proof.messages) != 3:
        return False
    envelope, *adverts = (_read(data, proof, roster) for data in proof.messages)
    accuser, accused = (_keys(advert, roster) for advert in adverts)
    complaint = Complaint.decode(envelope.body, peer=envelope.sender, suite=roster.suite)
    if envelope.sender != accuser.id or complaint.delivered.dealer != accused.id:
        return False
    is_right = is_justified(
        complaint,
        accuser=accuser,
        accused=accused,
        accused_key=roster.key(accused.id) or b"",
        context=proof.context,
        h1=complaint.delivered.head.h1,
    )
    return proof.culprit == (accused.id if is_right else accuser.id)


def _is_share_proven(proof: Proof, roster: Roster) -> bool:
    if len(proof.messages) != 2:
        return False
    envelope = _read(proof.messages[0], proof, roster)
    body = Unmask.decode(envelope.body, peer=envelope.sender, max_shares=_MAX_SHARES)
    dealt = DeliveredShare.decode(proof.messages[1], peer=envelope.sender, suite=roster.suite)
    is_dealt = dealt.is_dealt(
        holder=envelope.sender,
        public_key=roster.key(dealt.dealer) or b"",
        context=proof.context,
        h1=dealt.head.h1,
    )
    return (
        envelope.sender == proof.culprit
        and is_dealt
        and any(
            share.dealer == dealt.dealer
            and not share_fits(
                share.share,
                item=dealt.item,
                head=dealt.head,
                context=proof.context,
                dealer=dealt.dealer,
                kind=share.kind,
            )
            for share in body.shares
        )
    )


def _read(data: bytes, proof: Proof, roster: Roster) -> Envelope:
    """A message of the proof, if its sender signed it in this attempt."""
    envelope = Envelope.parse(data, peer=proof.culprit, max_size=_MAX_SIZE)
    key = roster.key(envelope.sender) or b""
    if envelope.context != proof.context or not envelope.is_signed_by(key):
        raise ValueError("expected a signed message of this attempt")
    return envelope


def _keys(envelope: Envelope, roster: Roster) -> PublicKeys:
    if envelope.label != AdvertiseKeys.LABEL:
        raise ValueError("expected advertised keys")
    body = AdvertiseKeys.decode(envelope.body, peer=envelope.sender, suite=roster.suite)
    return PublicKeys(id=envelope.sender, mask=body.mask_key, channel=body.channel_key)
