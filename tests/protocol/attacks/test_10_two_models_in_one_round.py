"""Attack 10: one model for the victim and another for everybody else (model inconsistency).

Pasquini et al. (2022), arXiv:2111.07380: if the others' model makes their updates vanish, the sum
is the victim's update. Signatures must reject it, and masks must not cancel even if they did not.
"""

import dataclasses
import hashlib

import pytest

from protocol import keys, labels
from protocol.errors import Misbehaviour, RemoteProtocolError

OTHER = b"a model whose gradient is zero for everybody but one"


def split(hostile, federation):
    """Two halves of one cohort that were offered different models in one round and attempt."""
    members, twins = federation(), federation()
    spec = dataclasses.replace(members.spec, model_hash=hashlib.sha256(OTHER).digest())
    return hostile(members).join(), hostile(twins, spec=spec).join(model=OTHER)


def test_the_contexts_differ_and_with_them_every_key(hostile, federation):
    one, other = split(hostile, federation)
    assert one.context != other.context
    ids = list(one.clients)
    for id in ids:
        # The same entropy on both sides: only the context tells them apart.
        assert one.public_keys()[id].mask != other.public_keys()[id].mask


def test_keys_advertised_for_the_other_model_are_rejected(hostile, federation, aborts):
    one, other = split(hostile, federation)
    ids = list(one.clients)
    mixed = {id: (one if id == ids[0] else other).ads[id] for id in ids}
    aborts(one.clients[ids[0]], one.directory(mixed), Misbehaviour.FOREIGN_CONTEXT)
    aborts(other.clients[ids[1]], other.directory(mixed), Misbehaviour.FOREIGN_CONTEXT)


def test_messages_of_the_other_half_are_foreign(hostile, federation):
    one, other = split(hostile, federation)
    victim = one.clients[next(iter(one.clients))]
    with pytest.raises(RemoteProtocolError) as caught:
        victim.receive(other.directory())
    assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT
    assert victim.state == "Ready"


def test_masks_would_not_cancel_even_if_the_signatures_were_not_checked():
    # The same seeds, the same peers, but transcripts that started from two contexts.
    pairs, members = {}, {}
    for id, context in (("a", b"1" * 32), ("b", b"2" * 32)):
        pairs[id] = keys.KeyPair(
            keys.secret_scalar(id.encode() * 32, context=context, label=labels.MASK_SECRET)
        )
        members[id] = keys.PublicKeys(id=id, mask=pairs[id].public, channel=bytes(32))
    transcripts = {
        id: keys.share_transcript(
            keys.key_transcript(list(members.values()), context=context), ids=["a", "b"]
        )
        for id, context in (("a", b"1" * 32), ("b", b"2" * 32))
    }
    assert transcripts["a"] != transcripts["b"]
    at_a = keys.pair_key(pairs["a"], own_id="a", peer=members["b"], h2=transcripts["a"])
    at_b = keys.pair_key(pairs["b"], own_id="b", peer=members["a"], h2=transcripts["b"])
    agreed = keys.pair_key(pairs["b"], own_id="b", peer=members["a"], h2=transcripts["a"])
    assert at_a == agreed
    assert at_a != at_b
