"""What a dishonest site can deal and complain: all correctly signed, some of it well sealed."""

from __future__ import annotations

import dataclasses
import os

from protocol.complaints import make_complaint
from protocol.dealing import DealtSecrets, deal
from protocol.keys import KeyPair, channel_key
from protocol.merkle import root_of
from protocol.messages import Complaint, Envelope, ShareDelivery, ShareKeys
from protocol.shamir import SHARE_SIZE
from protocol.transport import SEALED_SIZE, associated_data, seal_shares


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
        self.honest = ShareKeys.decode(body_of(data), peer=self.id, max_shares=1000)

    def sealed(self, holder, shares, commitments):
        """``shares`` as ``holder`` will open them."""
        if holder == self.id:
            return b""
        state = self.state
        key = channel_key(
            state.channel_pair,
            sender=state.members[self.id],
            receiver=state.members[holder],
            h1=state.h1,
        )
        associated = associated_data(
            h1=state.h1, sender=self.id, receiver=holder, commitments=commitments
        )
        return seal_shares(key, shares=shares, associated=associated, entropy=os.urandom)

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
        return self.changed(holder, sealed=os.urandom(SEALED_SIZE))

    def wrong_shares(self, holder):
        """What opens for ``holder`` is not what was committed to."""
        (item,) = (share for share in self.honest.shares if share.holder == holder)
        commitments = [
            item.mask_key_commitment,
            item.self_mask_commitment,
            self.honest.head.self_mask_point,
        ]
        wrong = (bytes([1]) + bytes(SHARE_SIZE - 1),) * 2
        return self.changed(holder, sealed=self.sealed(holder, wrong, commitments))

    def wrong_commitment(self, holder, field="mask_key_commitment"):
        """One commitment for ``holder`` is to something else, all bound as it should be."""
        (item,) = (share for share in self.honest.shares if share.holder == holder)
        lie = dataclasses.replace(item, **{field: os.urandom(32)})
        commitments = [
            lie.mask_key_commitment,
            lie.self_mask_commitment,
            self.honest.head.self_mask_point,
        ]
        sealed = self.sealed(holder, (bytes(SHARE_SIZE),) * 2, commitments)
        return self.changed(holder, **{field: getattr(lie, field), "sealed": sealed})

    def other_secret(self, which, *, threshold=None):
        """A perfect dealing, but of another secret or of a higher degree."""
        state = self.state
        secrets = {"mask_key": state.mask_pair.secret, "self_mask": state.self_secret}
        if which is not None:
            secrets[which] = KeyPair(bytes([7]) + bytes(31)).secret
        body, _ = deal(
            DealtSecrets(**secrets, context=state.context, h1=state.h1),
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
    body = ShareDelivery.decode(body_of(delivery), peer="server", max_members=1000)
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
