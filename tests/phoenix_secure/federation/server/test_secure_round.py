"""Secure rounds: exact over the survivors, another attempt, or a clean stop with the reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.server.attempt import STAGES
from protocol.messages import Envelope, ShareKeys, seal

AFTER_TRAINING = STAGES[1:5]


def drop(stage: str, sites: set[str], when: str, *, until: int = 10**9):
    """From ``stage`` on these sites are gone, up to the exchange numbered ``until``."""
    order = {name: place for place, name in enumerate(STAGES)}

    def fault(now: str, site: str, exchange: int) -> str | None:
        if site not in sites or exchange > until or order[now] < order[stage]:
            return None
        return when if now == stage else "before"

    return fault


def test_mean_is_that_of_the_oracle_bit_for_bit(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path)
    found = parties.sum()
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names))
    assert found.sites == parties.names
    assert found.num_images == 150
    assert found.num_steps == 20
    assert found.loss == pytest.approx((10 + 40 + 90 + 160 + 250) / 150)
    assert found.failures == {}


def test_mean_is_within_the_stated_bound_of_float_fedavg(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path, num_parameters=3000)
    found = parties.sum()
    request = secure_parties.TrainRequest(round_number=1, parameters=parties.zeros())
    updates = [site.update(request) for site in parties.sites.values()]
    total = sum(u.delta.astype(np.float64) * u.num_images for u in updates)
    error = np.abs(found.update - total / 150).max()
    bound = parties.terms.rounding_bound(num_sites=5, num_images=150)
    assert 0 < error < bound
    assert error > bound / 100  # the bound is not an idle one


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_round_survives_one_of_five_sites_at_any_stage(
    secure_parties, tmp_path: Path, stage: str, when: str
) -> None:
    parties = secure_parties.Parties(tmp_path)
    parties.engine.fault = drop(stage, {"site-02"}, when)
    found = parties.sum()
    in_sum = stage in ("check", "unmask", "result")
    survivors = parties.names if in_sum else tuple(n for n in parties.names if n != "site-02")
    assert found.sites == survivors
    np.testing.assert_array_equal(found.update, parties.oracle(survivors))
    assert found.secure.attempts == 1
    assert set(found.failures) == set(parties.names) - set(survivors)
    if stage != "result":
        assert next(iter(found.secure.dropouts)) == stage


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES[:5])
def test_too_many_dropouts_lead_to_another_attempt_that_succeeds(
    secure_parties, tmp_path: Path, stage: str, when: str
) -> None:
    parties = secure_parties.Parties(tmp_path)
    last_of_first = STAGES.index(stage) + 1
    parties.engine.fault = drop(stage, {"site-02", "site-03"}, when, until=last_of_first)
    found = parties.sum()
    assert found.secure.attempts == 2
    assert found.secure.failed_attempts == ("too few sites left",)
    assert found.sites == parties.names
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names))
    # Before the survivors are asked to sign it is the same protocol round, afterwards a new one.
    assert found.secure.protocol_round == (1 if stage in ("announce", "share", "mask") else 2)


def test_another_attempt_needs_no_second_training(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path)
    parties.engine.fault = drop("mask", {"site-02", "site-03"}, "after", until=3)
    parties.sum()
    assert all(site.trainings == [1] for site in parties.sites.values())


def test_signed_round_is_summed_again_over_the_same_sites_only(
    secure_parties, tmp_path: Path
) -> None:
    """One site was out when the survivors were named; it stays out of the second sum too."""
    parties = secure_parties.Parties(tmp_path, num_sites=7)
    away = drop("mask", {"site-07"}, "before", until=3)
    lost = drop("check", {"site-01", "site-02"}, "after", until=4)
    parties.engine.fault = lambda *a: away(*a) or lost(*a)
    found = parties.sum()
    assert found.secure.attempts == 2
    assert found.sites == parties.names[:6]
    assert found.failures == {"site-07": "left out of this attempt"}
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names[:6]))


def test_signed_round_is_not_summed_over_other_sites(secure_parties, tmp_path: Path) -> None:
    """The signatures are lost with too many sites; one never returns: the others must refuse."""
    parties = secure_parties.Parties(tmp_path, num_sites=7)
    lost = drop("check", {"site-01", "site-02", "site-03"}, "after", until=4)
    gone = drop("announce", {"site-01"}, "before")
    parties.engine.fault = lambda stage, site, n: (
        lost(stage, site, n) or (gone(stage, site, n) if n > 4 else None)
    )
    with pytest.raises(TrainingError, match="same ones again: start site-01, site-02"):
        parties.sum()
    refusals = [r for r in parties.stages if r.stage == "check" and r.attempt > 1]
    assert refusals
    assert all(set(r.failures.values()) == {"refused"} for r in refusals)
    # Once it is back, the round is done, over the very sites of the first time.
    parties.engine.fault = lambda *a: None
    found = parties.sum()
    assert found.sites == parties.names
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names))


def test_sites_that_stay_away_stop_the_run_with_the_reason(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path)
    parties.engine.fault = drop("announce", {"site-02", "site-04"}, "before")
    with pytest.raises(TrainingError) as caught:
        parties.sum()
    text = str(caught.value)
    assert "round 1: no secure sum after 3 attempts" in text
    assert "site-02: no-reply, site-04: no-reply" in text
    assert "at least 4 sites must stay" in text
    assert "\n" not in text


def test_site_that_lost_its_memory_is_a_dropout_and_never_masks_twice(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path)

    def restart(stage: str, site: str, exchange: int) -> None:
        if stage == "unmask" and site == "site-05":
            parties.sites[site].restart()

    parties.engine.fault = restart
    found = parties.sum()
    assert found.secure.dropouts == {"unmask": {"site-05": "refused"}}
    np.testing.assert_array_equal(found.update, parties.oracle(parties.names))


def test_site_that_was_away_rejoins_and_the_chain_of_transcripts_goes_on(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path)
    aggregator = parties.aggregator()
    parties.aggregate(aggregator, 1)
    parties.engine.fault = drop("announce", {"site-03"}, "before")
    assert "site-03" not in parties.aggregate(aggregator, 2).sites
    parties.engine.fault = lambda *a: None
    found = parties.aggregate(aggregator, 3)
    assert found.sites == parties.names
    assert (
        parties.sites["site-01"].secure._record.transcript_before(4).hex()
        == found.secure.transcript
    )


def test_record_of_a_round_holds_what_a_reader_needs(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path)
    secure = parties.sum().secure.to_dict()
    assert {"n", "t", "c", "word_bits", "survivors", "dropouts", "attempts"} <= set(secure)
    assert (secure["n"], secure["t"], secure["c"]) == (5, 4, 1)
    assert [stage["stage"] for stage in secure["stages"]] == list(STAGES)
    mask = secure["stages"][2]
    assert mask["bytes_up"] > 5 * parties.terms.masked_bytes
    assert all(stage["seconds"] > 0 for stage in secure["stages"])
    assert len(bytes.fromhex(secure["transcript"])) == 32
    assert [report.to_dict()["stage"] for report in parties.stages] == list(STAGES)


def test_clipped_updates_are_counted_but_not_named(secure_parties, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path, "secure_aggregation.clip_value=0.3")
    secure = parties.sum().secure
    assert 0 < secure.clipped < 5
    assert not any(name in str(secure.to_dict()) for name in parties.names)


def test_site_whose_dealing_is_not_proven_is_excluded_and_the_round_goes_on(
    secure_parties, tmp_path: Path
) -> None:
    """Its items are not those that it signed: named when it deals, and never asked again."""
    parties = secure_parties.Parties(tmp_path, num_sites=7)
    cheat = parties.sites["site-02"]
    honest = cheat.handle

    def handle(stage: str, body: bytes) -> bytes:
        reply = honest(stage, body)
        if stage != "share":
            return reply
        envelope = Envelope.parse(reply, peer=cheat.name, max_size=len(reply))
        dealt = ShareKeys.decode(envelope.body, peer=cheat.name, max_shares=7)
        broken = tuple(
            dataclasses.replace(share, sealed=bytes(share.sealed[:-1]) + b"\0")
            if share.sealed
            else share
            for share in dealt.shares
        )
        return seal(
            parties.identities[cheat.name],
            label=envelope.label,
            context=envelope.context,
            body=dataclasses.replace(dealt, shares=broken).encode(),
        )

    cheat.handle = handle
    found = parties.sum()
    assert found.secure.failed_attempts == ()
    honest_sites = tuple(name for name in parties.names if name != "site-02")
    assert found.sites == honest_sites
    assert found.failures == {"site-02": "excluded: unusable shares dealt"}
    assert parties.sum(2).sites == honest_sites
    asked = [site for stage, site, _ in parties.engine.sent if stage == "announce"]
    assert asked.count("site-02") == 1
    np.testing.assert_array_equal(found.update, parties.oracle(honest_sites))


def test_lie_of_a_signing_site_is_named_and_the_round_goes_on(
    secure_parties, tmp_path: Path
) -> None:
    """A masked vector cut short under a valid signature: its sender drops out, by name."""
    parties = secure_parties.Parties(tmp_path)
    liar = parties.sites["site-04"]
    honest = liar.handle

    def handle(stage: str, body: bytes) -> bytes:
        reply = honest(stage, body)
        if stage != "mask":
            return reply
        envelope = Envelope.parse(reply, peer=liar.name, max_size=len(reply))
        return seal(
            parties.identities[liar.name],
            label=envelope.label,
            context=envelope.context,
            body=bytes(envelope.body)[:-3],
        )

    liar.handle = handle
    found = parties.sum()
    assert found.secure.dropouts["mask"] == {"site-04": "malformed message"}
    others = tuple(name for name in parties.names if name != "site-04")
    np.testing.assert_array_equal(found.update, parties.oracle(others))
