"""What a dishonest site can deal and complain: all correctly signed, some of it well sealed."""

from __future__ import annotations

import dataclasses
import os

from protocol.capsule import PairSecret
from protocol.complaints import make_complaint
from protocol.dealing import DealtSecrets, deal
from protocol.kem import encapsulate
from protocol.keys import KeyPair, channel_key_from
from protocol.merkle import root_of
from protocol.messages import Complaint, Envelope, ShareDelivery, ShareKeys
from protocol.shamir import SHARE_SIZE
from protocol.transport import SEALED_SIZES, associated_data, seal_shares


def body_of(data):
    """The body of a message in wire form."""
    return bytes(Envelope.parse(data, peer="x", max_size=len(data)).body)


class Dealer:
    """A site that has just dealt: what it knows, and other dealings in its name."""

    def __init__(self, members, client, data):
        self.members = members
        self.id = client._site.identity.id
        self.state = client._state
        self.data = data
        self.suite = self.state.spec.suite
        self.honest = ShareKeys.decode(
            body_of(data), peer=self.id, max_shares=1000, suite=self.suite
        )

    def sealed(self, holder, shares, commitments):
        """``shares`` as ``holder`` will open them."""
        if holder == self.id:
            return b""
        state, receiver, extra = self.state, self.state.members[holder], None
        if self.suite.is_hybrid:
            secret, ciphertext = encapsulate(receiver.offer)
            extra = PairSecret(secret=secret, ciphertext=ciphertext)
        key = channel_key_from(
            state.channel_pair.exchange(receiver.channel[:32]),
            sender=state.members[self.id],
            receiver=receiver,
            h1=state.h1,
            extra=extra,
        )
        associated = associated_data(
            h1=state.h1,
            sender=self.id,
            receiver=holder,
            commitments=commitments,
            suite=self.suite,
        )
        sealed = seal_shares(key, shares=shares, associated=associated, entropy=os.urandom)
        return sealed if extra is None else extra.ciphertext + sealed

    def bound(self, item):
        """What the shares in ``item`` are sealed beside."""
        bound = [
            item.mask_key_commitment,
            item.self_mask_commitment,
            self.honest.head.self_mask_point,
        ]
        return [*bound, item.capsule] if self.suite.is_hybrid else bound

    def signed(self, shares=None, **head):
        """The message with other items or another head, under root and signatures that fit."""
        shares = self.honest.shares if shares is None else shares
        root = root_of([share.encode() for share in shares])
        changed = dataclasses.replace(self.honest.head, **({"root": root} | head))
        identity = self.members.identities[self.id]
        signed = changed.sign(identity, context=self.state.context)
        return self.message(ShareKeys(head=signed, shares=tuple(shares)))

    def message(self, body):
        return self.members.reseal(self.id, self.data, body=body.encode())

    def changed(self, holder, **fields):
        """The honest dealing with one holder's item changed."""
        return self.signed(
            [
                dataclasses.replace(share, **fields) if share.holder == holder else share
                for share in self.honest.shares
            ]
        )

    def unreadable(self, holder):
        """What is sealed for ``holder`` does not open."""
        return self.changed(holder, sealed=os.urandom(SEALED_SIZES[self.suite]))

    def wrong_shares(self, holder):
        """What opens for ``holder`` is not what was committed to."""
        (item,) = (share for share in self.honest.shares if share.holder == holder)
        wrong = (bytes([1]) + bytes(SHARE_SIZE - 1),) * 2
        return self.changed(holder, sealed=self.sealed(holder, wrong, self.bound(item)))

    def wrong_commitment(self, holder, field="mask_key_commitment"):
        """One commitment for ``holder`` is to something else, all bound as it should be."""
        (item,) = (share for share in self.honest.shares if share.holder == holder)
        lie = dataclasses.replace(item, **{field: os.urandom(32)})
        sealed = self.sealed(holder, (bytes(SHARE_SIZE),) * 2, self.bound(lie))
        return self.changed(holder, **{field: getattr(lie, field), "sealed": sealed})

    def other_secret(self, which, *, threshold=None):
        """A perfect dealing, but of another secret or of a higher degree."""
        state = self.state
        secrets = {"mask_key": state.mask_pair.shared, "self_mask": state.self_secret}
        if which is not None:
            secrets[which] = KeyPair(bytes([7]) + bytes(31)).secret
        body, _ = deal(
            DealtSecrets(
                **secrets,
                context=state.context,
                h1=state.h1,
                suite=self.suite,
                capsules={share.holder: share.capsule for share in self.honest.shares},
            ),
            dealer=self.members.identities[self.id],
            points={share.holder: state.spec.point(share.holder) for share in self.honest.shares},
            threshold=threshold or state.spec.threshold,
            seal_for=self.sealed,
            entropy=os.urandom,
        )
        return self.message(body)


def false_complaint(members, client, delivery, accused):
    """``client``'s complaint about what ``accused`` dealt it honestly, with a proof that is right.

    ``client`` has just opened ``delivery`` and holds its state of before no more: ask before.
    """
    state, id = client._state, client._site.identity.id
    body = ShareDelivery.decode(
        body_of(delivery), peer="server", max_members=1000, suite=state.spec.suite
    )
    (share,) = (share for share in body.shares if share.dealer == accused)
    return make_complaint(
        share,
        channel=state.channel_pair,
        accused=state.members[accused],
        context=state.context,
        entropy=os.urandom,
    ), id


def complaint_message(members, complaint, id, template):
    """The complaint in wire form, signed by ``id``; ``template`` is any message of the attempt."""
    return members.reseal(id, template, body=complaint.encode(), label=Complaint.LABEL)
