"""A key that was revoked is used in the rounds that follow: by its thief, or by a lying server.

Real sites and their records; the thief holds the site's key and answers like it, the server counts
it in against the roster in force.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.round.confirmation import Certificate, ModelClaim
from phoenix_secure.federation.round.epoch import RoundEpoch
from protocol import SERVER, ChangeKind, Identity, Roster, RosterChain, RosterChange

GONE = "site-03"


@pytest.fixture
def parties(tmp_path: Path, secure_parties: ModuleType) -> Any:
    """Five sites, of whose roster the owner's key is known."""
    made = secure_parties.Parties(tmp_path)
    made.owner = Identity.generate("owner")
    made.planned = Roster.create(
        federation_id="tests",
        owner_key=made.owner.public_key,
        server_key=made.server.public_key,
        keys=dict(made.roster.members),
    )
    made.roster = made.planned
    made.epoch = RoundEpoch.fixed(made.planned)
    for site in made.sites.values():
        site.restart()
    return made


def rosters(parties: Any, *gone: str) -> RosterChain:
    """The owner revoked each of ``gone``, one epoch after the other."""
    chain = RosterChain.of(
        [parties.planned.sign(parties.owner)], owner_key=parties.owner.public_key
    )
    for site in gone:
        keys = {id: key for id, key in chain.current.members if id != site}
        change = RosterChange(kind=ChangeKind.REVOKED, party=site, reason="key stolen")
        chain = chain.extended(
            parties.owner, server_key=parties.server.public_key, keys=keys, changes=[change]
        )
    return chain


def epoch(parties: Any, *gone: str) -> RoundEpoch:
    return RoundEpoch.of(
        rosters(parties, *gone), planned=parties.planned, round_roster=parties.planned
    )


def forgetting(made: RoundEpoch) -> RoundEpoch:
    """What a server would use that knows the roster in force, and asks the revoked all the same."""
    return RoundEpoch(number=made.number, roster=made.roster)


def test_rounds_go_on_without_the_revoked_site(parties: Any) -> None:
    found = parties.sum(1)
    assert GONE in found.sites
    parties.epoch = epoch(parties, GONE)
    found = parties.sum(2)
    assert found.sites == tuple(site for site in parties.names if site != GONE)
    assert found.failures == {GONE: "revoked by the federation's owner, epoch 2: key stolen"}
    np.testing.assert_allclose(found.update, parties.oracle(found.sites, 2), rtol=1e-5, atol=1e-7)
    assert parties.sites[GONE].trainings == [1]  # it was not asked a second time


def test_server_that_counts_the_revoked_key_in_gets_no_sum(parties: Any) -> None:
    """The thief trains along; no honest site deals a share to it."""
    made = epoch(parties, GONE)
    parties.epoch = made
    parties.epochs = {SERVER: forgetting(made), GONE: forgetting(made)}
    with pytest.raises(TrainingError, match=r"no secure sum after 3 attempts .* in stage share"):
        parties.sum(1)
    stages = [stage for stage, _, _ in parties.engine.sent]
    assert "mask" not in stages
    assert parties.sites[GONE].trainings == [1]


def test_honest_sites_say_whose_keys_they_refused(parties: Any, caplog: Any) -> None:
    made = epoch(parties, GONE)
    parties.epoch = made
    parties.epochs = {SERVER: forgetting(made), GONE: forgetting(made)}
    with pytest.raises(TrainingError):
        parties.sum(1, max_attempts=1)
    for site in parties.names:
        said = f"{site} refused share: keys of {GONE}, revoked by the federation's owner, epoch 2"
        assert (said in caplog.text) is (site != GONE)


def test_rollback_by_the_server_finds_no_site(parties: Any, caplog: Any) -> None:
    """It never joins with the newest roster, and goes on under the one before."""
    parties.epoch = epoch(parties, GONE)
    parties.epochs = {SERVER: epoch(parties), GONE: epoch(parties)}
    with pytest.raises(TrainingError, match="no secure sum after 1 attempts"):
        parties.sum(1, max_attempts=1)
    assert "of another roster than the one in force, epoch 2" in caplog.text
    assert {site for site in parties.names if parties.sites[site].trainings} == {GONE}


def test_sites_that_were_shown_two_second_epochs_are_in_no_sum_together(parties: Any) -> None:
    """An owner's key that signed both; the server sides with either half."""
    one, other = epoch(parties, GONE), epoch(parties, "site-05")
    halves = {site: one if site < "site-03" else other for site in parties.names}
    for servers in (one, other):
        parties.epochs = halves | {SERVER: servers}
        with pytest.raises(TrainingError, match="no secure sum"):
            parties.sum(1, max_attempts=1)
    assert not [stage for stage, _, _ in parties.engine.sent if stage == "mask"]


def test_too_few_sites_left_stop_the_run_by_name(parties: Any) -> None:
    parties.epoch = epoch(parties, GONE, "site-05")
    with pytest.raises(TrainingError, match="3 of 5 sites are left in the roster, and a sum need"):
        parties.sum(1)
    assert not parties.engine.sent


def test_round_that_the_revoked_site_signed_is_not_summed_over_others(parties: Any) -> None:
    """One set of survivors a round, whatever the roster: else two sums could be subtracted."""
    parties.engine.fault = lambda stage, site, number: "after" if stage == "unmask" else None
    with pytest.raises(TrainingError):
        parties.sum(1, max_attempts=1)
    parties.engine.fault = lambda stage, site, number: None
    parties.epoch = epoch(parties, GONE)
    with pytest.raises(TrainingError, match=r"no other one is signed .* resume with --skip-round"):
        parties.sum(1)


@pytest.mark.parametrize("signers", [("site-01", GONE), ("site-01", "site-02")])
def test_revoked_key_vouches_for_no_model(parties: Any, signers: tuple[str, ...]) -> None:
    """Also for none of a round before it was revoked: who has the key can date it back."""
    claim = ModelClaim(plan=bytes(32), round_number=1, sum=bytes(32), state=bytes(32))
    confirmed = [
        (site, claim.confirmed_by(parties.identities[site], roster=parties.planned).signature)
        for site in signers
    ]
    certificate = Certificate(claim=claim, signatures=tuple(confirmed))
    proof = {"plan": bytes(32), "roster": parties.planned, "num_colluders": 1}
    removed = epoch(parties, GONE).removed
    assert certificate.objection(**proof) is None
    objection = certificate.objection(**proof, removed=removed)
    if GONE in signers:
        assert objection == f"{GONE}, which signed it, is not in the roster in force"
        left = certificate.without(removed)
        assert "1 sites signed it" in (left.objection(**proof, removed=removed) or "")
    else:
        assert objection is None
