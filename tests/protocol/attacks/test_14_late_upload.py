"""Attack 14: keep the upload of a site that was declared dropped; its mask key is revealed.

The server then removes all pair masks of that upload. The self mask must still hide the input.
"""

import numpy as np
import pytest

from protocol import keys, labels
from protocol.commitments import ShareKind
from protocol.masks import add_masks
from protocol.shamir import combine, lagrange_at_zero
from protocol.words import centre, unpack


@pytest.fixture
def stolen(hostile):
    """Everybody uploaded; the server says that the last site did not, and gets its mask key."""
    server = hostile().join().deal().mask()
    server.victim = server.federation.ids[-1]
    return server.sign(server.federation.ids[:-1]).unmask()


def rebuild(server, dealer, kind):
    """The secret of ``dealer`` from all shares of ``kind`` that were revealed, or None."""
    shares = {
        server.spec.point(holder): share.share
        for holder, revealed in server.revealed.items()
        for share in revealed
        if (share.dealer, share.kind) == (dealer, kind)
    }
    if len(shares) < server.spec.threshold:
        return None
    weights = dict(zip(shares, lagrange_at_zero(list(shares)), strict=True))
    return combine(shares, weights=weights)


def without_pair_masks(server):
    """The victim's upload after its pair masks are taken off with the rebuilt mask key."""
    seed = rebuild(server, server.victim, ShareKind.MASK_KEY)
    pair = keys.KeyPair(seed)
    members, victim = server.public_keys(), server.victim
    assert pair.public == members[victim].mask
    words = unpack(
        server.uploads[victim].packed,
        word_bits=server.spec.word_bits,
        num_words=server.spec.total_words,
    )
    masks = [
        (
            keys.pair_key(pair, own_id=victim, peer=members[v], h2=server.h2()),
            -1 if victim < v else 1,
        )
        for v in members
        if v != victim
    ]
    add_masks(words, masks)
    return words


def test_the_self_mask_still_hides_the_input(stolen):
    words = without_pair_masks(stolen)
    true = stolen.federation.words(stolen.victim)
    seen = centre(words, word_bits=32)[: true.size]
    # Inputs are at most 100 in absolute value; what is left is of the order of 2^31.
    assert np.abs(seen).min() > 10_000
    # It is the self mask and nothing else: with b_v, which nobody revealed, the input appears.
    seed = self_seed_of_victim(stolen)
    add_masks(words, [(keys.self_key(seed, id=stolen.victim, h2=stolen.h2()), -1)])
    assert np.array_equal(centre(words, word_bits=32)[: true.size], true)


def self_seed_of_victim(server):
    """b_v, as only the victim drew it (from the second 32 bytes of its reproducible entropy)."""
    from protocol.entropy import insecure_counter_entropy

    seed = server.federation.seed + b"/round/0/" + server.victim.encode()
    entropy = insecure_counter_entropy(seed)
    entropy(32)
    return keys.secret_scalar(entropy(32), context=server.context, label=labels.SELF_SECRET)


def test_no_share_of_its_self_mask_was_revealed(stolen):
    assert rebuild(stolen, stolen.victim, ShareKind.SELF_MASK) is None
    kinds = [
        share.kind
        for revealed in stolen.revealed.values()
        for share in revealed
        if share.dealer == stolen.victim
    ]
    assert kinds == [ShareKind.MASK_KEY] * 4


def test_of_the_survivors_only_the_self_mask_was_revealed(stolen):
    for id in stolen.federation.ids[:-1]:
        assert rebuild(stolen, id, ShareKind.MASK_KEY) is None
        assert rebuild(stolen, id, ShareKind.SELF_MASK) is not None


def test_the_honest_server_ignores_the_late_upload(federation, simulation):
    attempt = simulation.Round(federation())
    late = attempt.federation.ids[-1]
    attempt.step()
    attempt.step()
    upload = attempt.answer(late, attempt.outbound[late])
    attempt.step(absent=[late])
    before = attempt.server._state.accumulator.copy()
    assert not attempt.server.receive(late, upload).outbound
    assert np.array_equal(attempt.server._state.accumulator, before)
    attempt.step(absent=[late])
    attempt.step(absent=[late])
    assert late not in attempt.completed.survivors
