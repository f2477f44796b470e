"""Attack 17: a dealer's shares do not rebuild its secret; it must be named, not a share holder."""

import pytest

from protocol import client_setup
from protocol.commitments import share_commitment
from protocol.errors import AbortReason, SessionAborted
from protocol.events import AttemptEnded
from protocol.shamir import split

LIAR = "site-001"


def deal_with(monkeypatch, attempt, name, replacement):
    """R1 of ``attempt`` in which the liar's session runs with one function replaced."""
    for id, data in attempt.outbound.items():
        with monkeypatch.context() as patch:
            if id == LIAR:
                patch.setattr(client_setup, name, replacement)
            attempt.server.receive(id, attempt.answer(id, data))
    attempt.outbound = attempt.server.close_stage().outbound


def off_polynomial(secret, *, points, threshold, entropy):
    """Honest shares but for the third, which lies on no polynomial of that degree."""
    shares = split(secret, points=points, threshold=threshold, entropy=entropy)
    return shares | {points[2]: bytes([0]) + b"\x11" * 32}


def another_secret(secret, *, points, threshold, entropy):
    """A correct sharing, but of something else."""
    return split(b"\x22" * 32, points=points, threshold=threshold, entropy=entropy)


def too_large(secret, *, points, threshold, entropy):
    """Shares that are no field elements."""
    return {point: b"\xff" * 33 for point in points}


@pytest.mark.parametrize("dealing", [off_polynomial, another_secret, too_large])
@pytest.mark.parametrize("dropped", [False, True], ids=["survives", "drops out"])
def test_shares_that_do_not_rebuild_the_secret(
    federation, simulation, monkeypatch, dealing, dropped
):
    attempt = simulation.Round(federation())
    attempt.step()
    deal_with(monkeypatch, attempt, "split", dealing)
    gone = [LIAR] if dropped else []
    attempt.step(absent=gone)
    attempt.step(absent=gone)
    with pytest.raises(SessionAborted) as caught:
        attempt.step(absent=gone)
    assert caught.value.reason is AbortReason.DEALER_MISBEHAVED
    assert caught.value.culprits == (LIAR,)
    assert attempt.completed is None


def test_a_commitment_to_another_self_mask_seed(federation, simulation, monkeypatch):
    attempt = simulation.Round(federation())
    attempt.step()
    deal_with(monkeypatch, attempt, "seed_commitment", lambda *_, **__: bytes(32))
    attempt.step()
    attempt.step()
    with pytest.raises(SessionAborted) as caught:
        attempt.step()
    assert caught.value.culprits == (LIAR,)


def test_a_share_that_does_not_open_its_commitment(federation, simulation, monkeypatch):
    attempt = simulation.Round(federation())
    attempt.step()

    def wrong_for_one(share, *, context, dealer, holder, kind):
        share = bytes(33) if holder == "site-003" else share
        return share_commitment(share, context=context, dealer=dealer, holder=holder, kind=kind)

    deal_with(monkeypatch, attempt, "share_commitment", wrong_for_one)
    victim = attempt.clients["site-003"]
    step = victim.receive(attempt.outbound["site-003"])
    assert step.events == (AttemptEnded(reason=AbortReason.DEALER_MISBEHAVED, culprit=LIAR),)
    assert victim.state == "Aborted"
    with pytest.raises(SessionAborted) as caught:
        attempt.server.receive("site-003", step.outbound)
    assert LIAR in caught.value.culprits
