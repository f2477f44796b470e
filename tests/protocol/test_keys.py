"""Keys agree at both ends, and change with everything their owners saw."""

import pytest

from protocol import labels
from protocol.group import ORDER, multiple, write_scalar
from protocol.keys import (
    KeyPair,
    PublicKeys,
    channel_key,
    is_safe_public_key,
    key_transcript,
    pair_key,
    rounding_key,
    secret_scalar,
    self_key,
    share_transcript,
)

P = 2**255 - 19
A, B, C = (KeyPair(write_scalar(number)) for number in (2, 3, 4))
ALICE = PublicKeys(id="alice", mask=A.public, channel=A.public)
BOB = PublicKeys(id="bob", mask=B.public, channel=B.public)
H = bytes(32)


def test_both_ends_derive_the_same_pair_key():
    assert pair_key(A, own_id="alice", peer=BOB, h2=H) == pair_key(
        B, own_id="bob", peer=ALICE, h2=H
    )


def test_both_ends_derive_the_same_channel_key_and_the_directions_differ():
    there = channel_key(A, sender=ALICE, receiver=BOB, h1=H)
    assert there == channel_key(B, sender=ALICE, receiver=BOB, h1=H)
    assert there != channel_key(A, sender=BOB, receiver=ALICE, h1=H)


def test_every_input_changes_the_key():
    keys = [
        pair_key(A, own_id="alice", peer=BOB, h2=H),
        pair_key(A, own_id="alice", peer=BOB, h2=bytes(31) + b"\x01"),
        pair_key(A, own_id="alicf", peer=BOB, h2=H),
        pair_key(C, own_id="alice", peer=BOB, h2=H),
        pair_key(A, own_id="alice", peer=PublicKeys(id="bob", mask=C.public, channel=b""), h2=H),
        pair_key(A, own_id="alice", peer=PublicKeys(id="bos", mask=B.public, channel=b""), h2=H),
        self_key(bytes(32), id="alice", h2=H),
        self_key(bytes(32), id="bob", h2=H),
        self_key(bytes(32), id="alice", h2=bytes(31) + b"\x01"),
        self_key(bytes(31) + b"\x01", id="alice", h2=H),
        rounding_key(bytes(32), context=H),
        channel_key(A, sender=ALICE, receiver=BOB, h1=H),
        channel_key(A, sender=ALICE, receiver=BOB, h1=bytes(31) + b"\x01"),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


def test_flipping_any_bit_of_a_seed_changes_the_whole_key():
    """No fold: flwr's masks had 28 bits of key; here all 256 count."""
    base = self_key(bytes(32), id="alice", h2=H)
    for bit in range(256):
        flipped = self_key((1 << bit).to_bytes(32, "big"), id="alice", h2=H)
        distance = (int.from_bytes(base, "big") ^ int.from_bytes(flipped, "big")).bit_count()
        assert distance > 64


def test_transcripts_depend_on_every_member_and_on_order():
    base = key_transcript([ALICE, BOB], context=H)
    assert base != key_transcript([BOB, ALICE], context=H)
    assert base != key_transcript([ALICE], context=H)
    assert base != key_transcript([ALICE, BOB], context=bytes(31) + b"\x01")
    assert share_transcript(H, ids=["a", "b"]) != share_transcript(H, ids=["ab"])


def test_secret_scalars_are_those_of_seed_context_and_use():
    base = secret_scalar(b"s" * 32, context=H, label=labels.MASK_SECRET)
    assert base == secret_scalar(b"s" * 32, context=H, label=labels.MASK_SECRET)
    others = {
        base,
        secret_scalar(b"t" * 32, context=H, label=labels.MASK_SECRET),
        secret_scalar(b"s" * 32, context=bytes(31) + b"\x01", label=labels.MASK_SECRET),
        secret_scalar(b"s" * 32, context=H, label=labels.SELF_SECRET),
        secret_scalar(b"s" * 32, context=H, label=labels.CHANNEL_SECRET),
    }
    assert len(others) == 5
    assert all(int.from_bytes(scalar, "little") < ORDER for scalar in others)


# RFC 8032's encodings of the points of order 1, 2, 4 and 8, of which the sign bit may be set.
SMALL_ORDER_Y = [
    1,
    P - 1,
    0,
    2707385501144840649318225287225658788936804267575313519463743609750303021994,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
]


@pytest.mark.parametrize("y", SMALL_ORDER_Y)
@pytest.mark.parametrize("sign", [0, 1])
def test_points_of_small_order_are_refused_twice(y, sign):
    key = (y | sign << 255).to_bytes(32, "little")
    assert not is_safe_public_key(key)
    with pytest.raises(ValueError, match="subgroup"):
        multiple(write_scalar(5), key)


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1, 2**256 - 1])
def test_non_canonical_points_are_refused(y):
    assert not is_safe_public_key(y.to_bytes(32, "little"))


def test_points_outside_the_subgroup_are_refused(torsion):
    assert not is_safe_public_key(torsion)
    with pytest.raises(ValueError, match="subgroup"):
        multiple(write_scalar(5), torsion)


@pytest.fixture
def torsion(oracles):
    """A point of order 2 times the group's: the base point and (0, -1)."""
    return oracles.point_bytes(oracles.add(oracles.BASE, (0, P - 1)))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\x02" + bytes(31)])
def test_what_is_no_point_is_refused(key):
    assert not is_safe_public_key(key)


def test_ordinary_keys_are_accepted():
    assert is_safe_public_key(A.public)
    assert A.public != B.public
