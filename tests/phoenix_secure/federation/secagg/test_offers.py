"""Offers, sums, states and confirmations as bytes: whole or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phoenix_secure.federation.round.confirmation import Certificate, Confirmation, ModelClaim
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.offers import (
    BroadcastSum,
    CatchUp,
    RoundOffer,
    state_from_bytes,
    state_to_bytes,
)
from phoenix_secure.federation.secagg.sum_step import SummedRound
from protocol import Identity, RemoteProtocolError, Roster

SIZES = {"max_sites": 5, "packed_size": 12, "max_state": 200}
SUMMED = SummedRound(round_number=7, num_sites=4, packed=bytes(range(12)))
CLAIM = ModelClaim(plan=bytes(32), round_number=7, sum=SUMMED.digest, state=b"s" * 32)


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    return {name: Identity.generate(name) for name in ("site-01", "site-02", "site-03")}


@pytest.fixture(scope="module")
def roster(identities: dict[str, Identity]) -> Roster:
    server = Identity.generate("server")
    return Roster.create(
        federation_id="tests",
        owner_key=Identity.generate("owner").public_key,
        server_key=server.public_key,
        keys={name: identity.public_key for name, identity in identities.items()},
    )


@pytest.fixture(scope="module")
def certificate(identities: dict[str, Identity], roster: Roster) -> Certificate:
    found = [CLAIM.confirmed_by(each, roster=roster) for each in identities.values()]
    return Certificate(claim=CLAIM, signatures=tuple((c.site, c.signature) for c in found))


def state() -> ServerState:
    return ServerState(
        round_number=7,
        parameters=np.array([1, -0.0, np.float32(1e-42)], np.float32),
        ema=np.array([4, 5, 6], np.float32),
        momentum=np.array([7, 8, 9], np.float32),
        second_moment=np.zeros(0, np.float32),
        clip_factor=0.3,
    )


def test_everything_comes_back_as_it_was(certificate: Certificate) -> None:
    for catch_up in (
        None,
        CatchUp(certificate=certificate, sums=(SUMMED, replace(SUMMED, round_number=8))),
        CatchUp(certificate=certificate, state=state_to_bytes(state())),
    ):
        offer = RoundOffer(announcement=b"offer", round_number=9, base=7, catch_up=catch_up)
        assert RoundOffer.from_bytes(offer.to_bytes(), **SIZES) == offer
    broadcast = BroadcastSum(result=b"result", summed=SUMMED)
    assert BroadcastSum.from_bytes(broadcast.to_bytes(), packed_size=12) == broadcast
    back = state_from_bytes(state_to_bytes(state()), like=state())
    assert back.digest == state().digest
    assert np.signbit(back.parameters[1])


@pytest.mark.parametrize("part", ["cut", "longer", "more sums", "another size", "more signatures"])
def test_every_other_offer_is_refused(certificate: Certificate, part: str) -> None:
    sums, signatures = (SUMMED,), certificate.signatures
    if part == "more sums":
        sums *= 17
    if part == "another size":
        sums = (replace(SUMMED, packed=bytes(15)),)
    if part == "more signatures":
        signatures *= 2
    late = CatchUp(certificate=replace(certificate, signatures=signatures), sums=sums)
    body = RoundOffer(announcement=b"offer", round_number=9, base=7, catch_up=late).to_bytes()
    if part in ("cut", "longer"):
        body = body[:-1] if part == "cut" else body + b"0"
    with pytest.raises(RemoteProtocolError, match="server: malformed message"):
        RoundOffer.from_bytes(body, **SIZES)


@pytest.mark.parametrize("size", [0, 40, -1, 1])
def test_state_of_another_size_is_refused(size: int) -> None:
    data = state_to_bytes(state())
    data = data[:size] if size in (0, 40, -1) else data + b"\0" * 4
    with pytest.raises(ValueError, match="expected a state of this run's size"):
        state_from_bytes(data, like=state())


def test_a_confirmation_is_of_one_site_plan_round_sum_and_state(
    identities: dict[str, Identity], roster: Roster
) -> None:
    made = CLAIM.confirmed_by(identities["site-01"], roster=roster)
    known = {"plan": CLAIM.plan, "round_number": 7, "sum_digest": CLAIM.sum}
    read = Confirmation.from_bytes(made.to_bytes(), site="site-01", **known)
    assert read == made
    assert read.is_valid(roster)
    assert not replace(read, site="site-02").is_valid(roster)
    assert not replace(read, site="stranger").is_valid(roster)
    for change in (
        {"plan": b"p" * 32},
        {"round_number": 8},
        {"sum": b"p" * 32},
        {"state": b"p" * 32},
    ):
        assert not replace(read, claim=replace(CLAIM, **change)).is_valid(roster)
    elsewhere = replace(roster, federation_id="elsewhere")
    assert not read.is_valid(elsewhere)
    with pytest.raises(RemoteProtocolError, match="site-01: malformed"):
        Confirmation.from_bytes(made.to_bytes()[:-1], site="site-01", **known)


def test_a_certificate_needs_one_signer_more_than_may_collude(
    certificate: Certificate, roster: Roster
) -> None:
    here = {"plan": CLAIM.plan, "roster": roster}
    assert certificate.objection(**here, num_colluders=2) is None
    assert "3 sites signed it" in (certificate.objection(**here, num_colluders=3) or "")
    assert Certificate.from_bytes(certificate.to_bytes(), max_sites=3) == certificate
