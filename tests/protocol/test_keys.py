"""Keys agree at both ends, and change with everything their owners saw."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from protocol.keys import (
    _SMALL_ORDER,
    PublicKeys,
    X25519Pair,
    channel_key,
    is_safe_public_key,
    key_transcript,
    pair_key,
    rounding_key,
    self_key,
    share_transcript,
)

P = 2**255 - 19
A, B = X25519Pair(bytes(31) + b"\x01"), X25519Pair(bytes(31) + b"\x02")
C = X25519Pair(bytes(31) + b"\x03")
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


def test_mask_pairs_are_those_of_their_seed_and_context():
    pair = X25519Pair.from_mask_seed(b"s" * 32, context=H)
    assert pair.public == X25519Pair.from_mask_seed(b"s" * 32, context=H).public
    other = bytes(31) + b"\x01"
    assert pair.public != X25519Pair.from_mask_seed(b"s" * 32, context=other).public


def test_the_small_order_points_are_those_that_give_zero():
    """Each listed point is refused by the library as well, in both of its encodings."""
    private = X25519PrivateKey.generate()
    for u in _SMALL_ORDER:
        key = u.to_bytes(32, "little")
        assert not is_safe_public_key(key)
        with pytest.raises(ValueError, match="shared key"):
            private.exchange(X25519PublicKey.from_public_bytes(key))


@pytest.mark.parametrize("u", [P, P + 1, 2**255 - 1, 2**255, 2**256 - 1, 9 + 2**255])
def test_non_canonical_points_are_refused(u):
    assert not is_safe_public_key(u.to_bytes(32, "little"))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_keys_of_another_size_are_refused(key):
    assert not is_safe_public_key(key)


def test_ordinary_keys_are_accepted():
    assert is_safe_public_key(A.public)
    assert is_safe_public_key((9).to_bytes(32, "little"))
