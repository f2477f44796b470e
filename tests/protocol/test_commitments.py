"""A commitment opens to one share, of one dealer, for one holder, of one kind, in one attempt."""

import itertools

from protocol.commitments import ShareKind, opens, share_commitment

BASE = {
    "blind": b"r" * 32,
    "context": bytes(32),
    "dealer": "u",
    "holder": "v",
    "kind": ShareKind.MASK_KEY,
}


def test_every_input_changes_the_commitment():
    share = b"s" * 32
    changes = [
        {},
        {"context": bytes(31) + b"\x01"},
        {"dealer": "v", "holder": "u"},
        {"dealer": "w"},
        {"holder": "w"},
        {"kind": ShareKind.SELF_MASK},
        {"blind": b"q" * 32},
    ]
    made = [share_commitment(share, **(BASE | change)) for change in changes]
    made.append(share_commitment(b"t" * 32, **BASE))
    for first, second in itertools.combinations(made, 2):
        assert not opens(first, second)


def test_the_same_share_opens_its_commitment():
    assert opens(share_commitment(b"s" * 32, **BASE), share_commitment(b"s" * 32, **BASE))
