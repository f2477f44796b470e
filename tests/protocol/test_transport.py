"""A sealed pair of shares opens only with its key, at its place, beside its commitments."""

import pytest

from protocol.entropy import insecure_counter_entropy
from protocol.shamir import SHARE_SIZE
from protocol.transport import SEALED_SIZE, associated_data, open_shares, seal_shares

KEY = bytes(range(32))
SHARES = (b"a" * SHARE_SIZE, b"b" * SHARE_SIZE)
PLACE = {"h1": bytes(32), "sender": "u", "receiver": "v", "commitments": [b"x" * 32, b"y" * 32]}


def sealed():
    return seal_shares(
        KEY,
        shares=SHARES,
        associated=associated_data(**PLACE),
        entropy=insecure_counter_entropy(b"nonce"),
    )


def test_it_opens_at_its_place():
    assert len(sealed()) == SEALED_SIZE
    assert open_shares(KEY, sealed=sealed(), associated=associated_data(**PLACE)) == SHARES


@pytest.mark.parametrize(
    "change",
    [
        {"h1": bytes(31) + b"\x01"},
        {"sender": "w"},
        {"receiver": "w"},
        {"sender": "v", "receiver": "u"},
        {"commitments": [b"y" * 32, b"x" * 32]},
        {"commitments": [b"x" * 32]},
    ],
)
def test_it_does_not_open_anywhere_else(change):
    associated = associated_data(**(PLACE | change))
    assert open_shares(KEY, sealed=sealed(), associated=associated) is None


def test_every_flipped_byte_and_every_cut_is_refused():
    for place in range(SEALED_SIZE):
        bad = bytearray(sealed())
        bad[place] ^= 1
        for data in (bytes(bad), sealed()[:place]):
            assert open_shares(KEY, sealed=data, associated=associated_data(**PLACE)) is None


def test_another_key_does_not_open_it():
    other = bytes(32)
    assert open_shares(other, sealed=sealed(), associated=associated_data(**PLACE)) is None


def test_nonces_come_from_the_entropy_source():
    entropy = insecure_counter_entropy(b"n")
    first, second = (
        seal_shares(KEY, shares=SHARES, associated=b"", entropy=entropy) for _ in range(2)
    )
    assert first[:12] != second[:12]


def test_shares_of_another_size_are_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        seal_shares(KEY, shares=(b"", b""), associated=b"", entropy=insecure_counter_entropy(b""))
