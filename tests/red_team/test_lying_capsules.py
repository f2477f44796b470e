"""Sites of a hybrid federation that deal what does not open, or another secret than their keys'.

A hybrid dealing shows no multiple of the secret, so that some lies show only when a drop-out's
secret is rebuilt. They cost an attempt, and their author.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol import Misbehaviour, RemoteProtocolError, SessionAborted, is_proven
from protocol import client_setup as setup
from protocol.capsule import Capsule
from protocol.complaints import make_capsule_complaint
from protocol.kem import encapsulate, kem_key
from protocol.messages import Complaint, Envelope, ShareDelivery
from protocol.proofs import Proof
from protocol.suite import Suite
from protocol_simulation import Federation, Round

LIAR, OTHER = "site-001", "site-004"


@pytest.fixture
def members() -> Federation:
    return Federation(5, suite=Suite.HYBRID_PQ)


def dealt(members: Federation, lie: Callable[[Round], None]) -> Round:
    """A round up to R1, in which ``lie`` changes what ``LIAR`` is about to deal."""
    attempt = Round(members)
    attempt.step()
    lie(attempt)
    attempt.step()
    return attempt


def lie_about_capsules(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Capsule], Capsule]
) -> Callable[[Round], None]:
    """``LIAR`` changes its capsule for ``OTHER``."""
    honest = setup._capsules

    def lying(state, *, members, holders, me, h1):
        capsules, secrets = honest(state, members=members, holders=holders, me=me, h1=h1)
        if me == LIAR:
            found = Capsule.decode(capsules[OTHER], peer=me)
            capsules[OTHER] = change(found).encode()
        return capsules, secrets

    return lambda attempt: monkeypatch.setattr(setup, "_capsules", lying)


def convicted(members: Federation, attempt: Round, *, absent: set[str]) -> Proof:
    """The proof at the end of a round whose ``absent`` dropped out before their input came."""
    attempt.step(absent=absent)
    attempt.step(absent=absent)
    with pytest.raises(SessionAborted) as caught:
        attempt.step(absent=absent)
    assert not caught.value.retry_allowed
    assert caught.value.culprits == (LIAR,)
    assert attempt.server.excluded == {LIAR: Misbehaviour.BAD_REBUILD}
    (proof,) = attempt.server.proofs
    return proof


def test_secret_that_is_not_that_of_the_keys_convicts_who_shared_it(members: Federation) -> None:
    def lie(attempt: Round) -> None:
        attempt.clients[LIAR]._state.mask_pair.shared = bytes([9]) + bytes(31)

    proof = convicted(members, dealt(members, lie), absent={LIAR})
    assert is_proven(proof, roster=members.roster)
    # In another federation, attempt or name it proves nothing.
    for changed in (
        dataclasses.replace(proof, culprit=OTHER),
        dataclasses.replace(proof, context=bytes(32)),
        dataclasses.replace(proof, messages=proof.messages[:-1]),
        dataclasses.replace(proof, messages=proof.messages[:3] + proof.messages[4:5] * 4),
        dataclasses.replace(proof, messages=()),
    ):
        assert not is_proven(changed, roster=members.roster)
    assert not is_proven(proof, roster=Federation(5, suite=Suite.CLASSICAL).roster)


def test_pad_of_another_secret_convicts_its_author(
    members: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = lie_about_capsules(monkeypatch, lambda found: dataclasses.replace(found, pad=bytes(32)))
    # The holder cannot see it: the ciphertext and the commitment are right.
    proof = convicted(members, dealt(members, lie), absent={LIAR})
    assert is_proven(proof, roster=members.roster)
    assert not is_proven(dataclasses.replace(proof, culprit=OTHER), roster=members.roster)


def test_honest_dealer_and_holder_are_convicted_by_no_rebuilt_secret(members: Federation) -> None:
    """The messages of a recovery in which nobody lied."""
    from protocol.rebuilt import RebuiltSecret, culprit_of

    attempt = Round(members)
    for absent in (set(), set(), {LIAR}, {LIAR}):
        attempt.step(absent=absent)
    state = attempt.server._state
    for id, data in attempt.outbound.items():
        attempt.server.receive(id, attempt.answer(id, data))
    revealed = attempt.server._state.revealed
    items = state.dealt[LIAR].deliveries(LIAR)
    shares = [(items[h], revealed[h][LIAR]) for h in sorted(revealed)[: members.spec.threshold]]
    for capsule in (
        None,
        items[OTHER],
        state.dealt["site-000"].deliveries("site-000")[LIAR],
        # No capsule is due here: it is missing by right.
        state.dealt[OTHER].deliveries(OTHER)[LIAR],
    ):
        found = RebuiltSecret(
            spec=members.spec,
            advertisement=state.dealing.advertisements[LIAR],
            shares=shares,
            capsule=capsule,
        )
        read = RebuiltSecret.read(found.messages(), peer="proof")
        assert culprit_of(read, context=members.spec.context, roster=members.roster) is None


@pytest.mark.parametrize("what", ["ciphertext", "commitment"])
def test_capsule_that_does_not_open_is_proven_before_anything_is_masked(
    members: Federation, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    changes = {
        "ciphertext": lambda found: encapsulate(kem_key(bytes(64)))[1],
        "commitment": lambda found: bytes(32),
    }
    lie = lie_about_capsules(
        monkeypatch,
        lambda found: dataclasses.replace(found, **{what: changes[what](found)}),
    )
    attempt = dealt(members, lie)
    answer = attempt.answer(OTHER, attempt.outbound[OTHER])
    assert Envelope.parse(answer, peer=OTHER, max_size=len(answer)).label == Complaint.LABEL
    assert attempt.clients[OTHER].state == "Aborted"
    with pytest.raises(SessionAborted) as caught:
        attempt.server.receive(OTHER, answer)
    assert (caught.value.culprits, caught.value.retry_allowed) == ((LIAR,), True)
    (proof,) = attempt.server.proofs
    assert is_proven(proof, roster=members.roster)


def test_shares_that_do_not_open_are_proven_by_one_opened_offer(
    members: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = setup.seal_shares, []

    def spoilt(key, *, shares, associated, entropy):
        sealed = honest(key, shares=shares, associated=associated, entropy=entropy)
        calls.append(sealed)
        # site-001 seals for 0, 2, 3, 4: its fourth is for site-004; site-000 sealed four before.
        return sealed[:-1] + bytes([sealed[-1] ^ 1]) if len(calls) == 8 else sealed

    attempt = dealt(members, lambda attempt: monkeypatch.setattr(setup, "seal_shares", spoilt))
    channel = attempt.clients[OTHER]._state.channel_pair
    answer = attempt.answer(OTHER, attempt.outbound[OTHER])
    body = bytes(Envelope.parse(answer, peer=OTHER, max_size=len(answer)).body)
    complaint = Complaint.decode(body, peer=OTHER, suite=members.spec.suite)
    # What it shows opens what this one dealer sealed, and nothing of anybody else.
    assert kem_key(complaint.opening) == channel.offers[LIAR]
    assert kem_key(complaint.opening) not in {
        key for dealer, key in channel.offers.items() if dealer != LIAR
    }
    with pytest.raises(SessionAborted) as caught:
        attempt.server.receive(OTHER, answer)
    assert caught.value.culprits == (LIAR,)
    (proof,) = attempt.server.proofs
    assert is_proven(proof, roster=members.roster)


@pytest.mark.parametrize("about", ["capsule", "shares"])
def test_false_complaint_costs_its_author(members: Federation, liars, about: str) -> None:
    attempt = dealt(members, lambda attempt: None)
    client = attempt.clients[OTHER]
    delivery = attempt.outbound[OTHER]
    body = bytes(Envelope.parse(delivery, peer="server", max_size=len(delivery)).body)
    shares = ShareDelivery.decode(body, peer="server", max_members=9, suite=members.spec.suite)
    (share,) = (each for each in shares.shares if each.dealer == LIAR)
    mask, channel = client._state.mask_pair, client._state.channel_pair
    if about == "capsule":
        complaint = make_capsule_complaint(share, mask=mask)
    else:
        complaint = setup_complaint(share, channel, client)
    # With the right seed, with that of another key, and with one of nothing.
    for opening in (complaint.opening, channel.kem_seed_for("site-000"), bytes(64)):
        told = dataclasses.replace(complaint, opening=opening)
        attempt = dealt(members, lambda attempt: None)
        message = members.reseal(OTHER, delivery, body=told.encode(), label=Complaint.LABEL)
        with pytest.raises(RemoteProtocolError) as caught:
            attempt.server.receive(OTHER, message)
        assert attempt.server.excluded.get(LIAR) is None
        assert caught.value.peer == OTHER


def setup_complaint(share, channel, client) -> Complaint:
    import os

    from protocol.complaints import make_complaint

    return make_complaint(
        share,
        channel=channel,
        accused=client._state.members[LIAR],
        context=client._state.context,
        entropy=os.urandom,
    )


def test_ciphertext_that_the_server_swaps_makes_nobody_show_a_key(members: Federation) -> None:
    """Two dealers' items trade their capsules, or one loses a bit: the dealer signed neither."""
    for swap in (True, False):
        attempt = dealt(members, lambda attempt: None)
        delivery = attempt.outbound[OTHER]
        body = bytes(Envelope.parse(delivery, peer="server", max_size=len(delivery)).body)
        shares = ShareDelivery.decode(body, peer="server", max_members=9, suite=members.spec.suite)
        first, second = (shares.shares[place].item.capsule for place in (0, 1))
        changed = body.replace(first, second) if swap else body.replace(first[4:36], bytes(32))
        assert changed != body
        forged = members.reseal("server", delivery, body=changed)
        client = attempt.clients[OTHER]
        with pytest.raises(SessionAborted, match="the server broke the protocol"):
            client.receive(forged)
        assert client.state == "Aborted"


def test_capsule_that_is_missing_is_refused_when_it_is_dealt(
    members: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = setup._capsules

    def lying(state, *, members, holders, me, h1):
        capsules, secrets = honest(state, members=members, holders=holders, me=me, h1=h1)
        if me == LIAR:
            del capsules[OTHER]
        return capsules, secrets

    monkeypatch.setattr(setup, "_capsules", lying)
    attempt = Round(members)
    attempt.step()
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.step()
    assert (caught.value.peer, caught.value.reason) == (LIAR, Misbehaviour.BAD_DEALING)


def test_attempt_that_a_liar_costs_is_followed_by_one_without_it(
    secure_parties, liar, tmp_path: Path
) -> None:
    """It deals another secret, leaves, and lets the others sign: they are summed without it."""
    parties = secure_parties.Parties(
        tmp_path, "secure_aggregation.suite=hybrid_pq", "secure_aggregation.collusion=0.1"
    )
    name = parties.names[1]
    cheat = liar(parties, name)

    def lie(body: bytes, honest: Callable[[], bytes]) -> bytes:
        cheat.session._state.mask_pair.shared = bytes([9]) + bytes(31)
        return honest()

    cheat.lies_at("share", lie)
    parties.engine.fault = lambda stage, site, exchange: (
        "before" if site == name and stage in ("mask", "check", "unmask") else None
    )
    found = parties.sum(1)
    others = tuple(each for each in parties.names if each != name)
    assert (found.sites, found.secure.attempts) == (others, 2)
    assert found.failures[name].startswith("excluded: shared another secret")
    np.testing.assert_array_equal(found.update, parties.oracle(others, 1))
