"""What a rebuilt mask secret must agree with in the hybrid suite, and the proof where it does not.

A hybrid dealing proves that its shares lie on one polynomial, and not what the polynomial has at
zero (``dealing``). So a dealer can share another secret than the one that its keys come from, or
pad another pair secret than it encapsulated. Neither shows before a drop-out's secret is rebuilt.
It then costs the attempt, and the liar is proven: shares that open its own signed commitments
rebuild a secret that does not make its own signed keys, or does not open its own signed capsule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.capsule import Capsule, Ends, PairSecret
from protocol.commitments import ShareKind
from protocol.dealing import share_fits
from protocol.encoding import Reader, encode
from protocol.messages import AdvertiseKeys, DeliveredShare, Envelope
from protocol.own_keys import MaskKeys
from protocol.roster import Roster
from protocol.shamir import SHARE_SIZE, combine, lagrange_at_zero
from protocol.spec import RoundSpec

__all__ = ["RebuiltSecret", "culprit_of", "pair_secret"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuiltSecret:
    """The messages that convict whoever a rebuilt a_u does not agree with.

    spec            of the attempt: it names the points of the holders
    advertisement   signed message with the keys of the site whose secret was rebuilt
    shares          the items of ``threshold`` holders with what they revealed
    capsule         the item whose capsule does not fit; empty where the keys do not
    """

    spec: RoundSpec
    advertisement: bytes
    shares: Sequence[tuple[DeliveredShare, bytes]]
    capsule: DeliveredShare | None

    def messages(self) -> tuple[bytes, ...]:
        """In wire form."""
        capsule = b"" if self.capsule is None else self.capsule.encode()
        shares = (encode([item.encode(), share]) for item, share in self.shares)
        return self.spec.encode(), self.advertisement, capsule, *shares

    @classmethod
    def read(cls, messages: Sequence[bytes], *, peer: str) -> RebuiltSecret:
        """What ``messages`` made; RemoteProtocolError or ValueError for anything else."""
        encoded, advertisement, capsule, *shares = messages
        spec = RoundSpec.decode(encoded, peer=peer)

        def item(data: bytes | memoryview) -> DeliveredShare:
            return DeliveredShare.decode(data, peer=peer, suite=spec.suite)

        def share(data: bytes) -> tuple[DeliveredShare, bytes]:
            reader = Reader(data, peer=peer)
            found = item(reader.view("item", max_size=len(data)))
            revealed = reader.exact("share", size=SHARE_SIZE)
            reader.finish()
            return found, revealed

        return cls(
            spec=spec,
            advertisement=advertisement,
            shares=[share(data) for data in shares],
            capsule=item(capsule) if capsule else None,
        )


def pair_secret(capsule_item: DeliveredShare, *, keys: MaskKeys, id: str) -> PairSecret | None:
    """The secret in a capsule that ``id`` made or was dealt, from its rebuilt keys."""
    ends = Ends(maker=capsule_item.dealer, opener=capsule_item.item.holder, h1=capsule_item.head.h1)
    if not capsule_item.item.capsule:
        return None
    capsule = Capsule.decode(capsule_item.item.capsule, peer=capsule_item.dealer)
    if capsule_item.dealer == id:
        return capsule.opened_by_maker(keys.shared, ends=ends)
    return capsule.opened_by_seed(keys.kem_seed, ends=ends)


def culprit_of(found: RebuiltSecret, *, context: bytes, roster: Roster) -> str | None:
    """Whom the messages convict; None where they convict nobody.

    Raises:     RemoteProtocolError or ValueError for messages that are malformed.
    """
    spec, suite = found.spec, roster.suite
    if spec.context != context or spec.suite is not suite or not suite.is_hybrid:
        return None
    envelope = Envelope.parse(found.advertisement, peer="proof", max_size=len(found.advertisement))
    owner = envelope.sender
    if (
        envelope.label != AdvertiseKeys.LABEL
        or envelope.context != context
        or not envelope.is_signed_by(roster.key(owner) or b"")
    ):
        return None
    body = AdvertiseKeys.decode(envelope.body, peer=owner, suite=suite)
    secret = _rebuilt(found, owner=owner, roster=roster)
    if secret is None:
        return None
    keys = MaskKeys(secret, suite=suite, context=context)
    if keys.advertised != body.mask_key:
        return owner
    item = found.capsule
    if item is None or owner not in (item.dealer, item.item.holder):
        return None
    if item.item.holder < item.dealer:  # gets no capsule
        return None
    if not _is_dealt(item, roster=roster, context=context, h1=found.shares[0][0].head.h1):
        return None
    return item.dealer if pair_secret(item, keys=keys, id=owner) is None else None


def _rebuilt(found: RebuiltSecret, *, owner: str, roster: Roster) -> bytes | None:
    """a_u of ``owner``, if the shares open what it signed for the holders, under one head."""
    spec = found.spec
    if len(found.shares) != spec.threshold:
        return None
    head = found.shares[0][0].head
    shares: dict[int, bytes] = {}
    for item, share in found.shares:
        fits = (
            item.dealer == owner
            and item.head == head
            and item.item.holder in spec.cohort
            and _is_dealt(item, roster=roster, context=spec.context, h1=head.h1)
            and share_fits(
                share,
                item=item.item,
                head=head,
                context=spec.context,
                dealer=owner,
                kind=ShareKind.MASK_KEY,
            )
        )
        if not fits:
            return None
        shares[spec.point(item.item.holder)] = share
    if len(shares) != spec.threshold:
        return None
    points = sorted(shares)
    weights: Mapping[int, int] = dict(zip(points, lagrange_at_zero(points), strict=True))
    return combine(shares, weights=weights)


def _is_dealt(item: DeliveredShare, *, roster: Roster, context: bytes, h1: bytes) -> bool:
    return item.is_dealt(
        holder=item.item.holder,
        public_key=roster.key(item.dealer) or b"",
        context=context,
        h1=h1,
    )
