"""Attack 16: a site reveals a wrong share at R4 to spoil the sum; it must be named."""

import pytest

from protocol.commitments import ShareKind
from protocol.errors import Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.messages import Envelope, RevealedShare, Unmask
from protocol.proofs import is_proven


@pytest.fixture
def unmasking(federation, simulation):
    """A round of eight sites of which the last dropped out, at R4; one more may lie."""
    attempt = simulation.Round(federation(8))
    attempt.step()
    attempt.step()
    for _ in range(2):
        attempt.step(absent=[attempt.federation.ids[7]])
    return attempt


def lie(attempt, liar, change):
    """``liar``'s answer with its shares changed and signed anew."""
    honest = attempt.answer(liar, attempt.outbound[liar])
    body = Unmask.decode(
        Envelope.parse(honest, peer=liar, max_size=len(honest)).body, peer=liar, max_shares=10
    )
    shares = tuple(change(list(body.shares)))
    parts = b"".join(
        len(item).to_bytes(4, "big") + item for item in (_item(share) for share in shares)
    )
    return attempt.federation.reseal(liar, honest, body=_encode([body.h2, parts]))


def _encode(fields):
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _item(share):
    return _encode([share.dealer.encode(), share.kind.value, share.share])


def _flip(shares):
    first = shares[0]
    wrong = bytes([first.share[0] ^ 1]) + first.share[1:]
    return [RevealedShare(dealer=first.dealer, kind=first.kind, share=wrong), *shares[1:]]


def _swap_kind(shares):
    first = shares[0]
    return [
        RevealedShare(dealer=first.dealer, kind=ShareKind.MASK_KEY, share=first.share),
        *shares[1:],
    ]


def _swap_dealers(shares):
    a, b = shares[:2]
    return [
        RevealedShare(dealer=a.dealer, kind=a.kind, share=b.share),
        RevealedShare(dealer=b.dealer, kind=b.kind, share=a.share),
        *shares[2:],
    ]


CHANGES = {
    "one bit": (_flip, Misbehaviour.BAD_SHARE),
    "another kind": (_swap_kind, Misbehaviour.BAD_SHARE),
    "two dealers swapped": (_swap_dealers, Misbehaviour.BAD_SHARE),
    "a dropped site's share wrong": (lambda s: [*s[:-1], *_flip(s[-1:])], Misbehaviour.BAD_SHARE),
    "one left out": (lambda s: s[1:], Misbehaviour.BAD_MEMBER_SET),
    "one repeated": (lambda s: [s[0], *s[:-1]], Misbehaviour.BAD_MEMBER_SET),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_liar_is_named_and_the_sum_is_exact_without_it(unmasking, name):
    change, reason = CHANGES[name]
    liar, *others = unmasking.federation.ids[:7]
    with pytest.raises(RemoteProtocolError) as caught:
        unmasking.server.receive(liar, lie(unmasking, liar, change))
    assert (caught.value.peer, caught.value.reason) == (liar, reason)
    assert unmasking.server.excluded == {liar: reason}
    (proof,) = unmasking.server.proofs
    assert (proof.culprit, proof.reason) == (liar, reason)
    has_wrong_value = name not in ("another kind", "one left out", "one repeated")
    assert is_proven(proof, roster=unmasking.federation.roster) is has_wrong_value
    for id in others:
        unmasking.server.receive(id, unmasking.answer(id, unmasking.outbound[id]))
    completed = unmasking.server.close_stage().events[-1]
    # The liar's input is in the sum: it signed and uploaded it; only its share is not believed.
    assert completed.survivors == unmasking.federation.ids[:7]
    expected = unmasking.federation.expected(completed.survivors)
    assert [int(w) for w in completed.words.view("i4")] == expected[: completed.words.size]


def test_with_too_few_honest_shares_the_round_ends_without_a_sum(unmasking):
    ids = unmasking.federation.ids[:7]
    for liar in ids[:2]:
        with pytest.raises(RemoteProtocolError):
            unmasking.server.receive(liar, lie(unmasking, liar, _flip))
    for id in ids[2:]:
        unmasking.server.receive(id, unmasking.answer(id, unmasking.outbound[id]))
    with pytest.raises(SessionAborted, match="too few"):
        unmasking.server.close_stage()
    assert unmasking.server.state == "Aborted"
