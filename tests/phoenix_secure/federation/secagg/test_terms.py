"""Terms: safe for every cohort, the same everywhere, refused where they cannot be kept."""

from __future__ import annotations

import dataclasses
import json

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.round.report import TermsRecord
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from protocol import Identity, RemoteProtocolError, Roster
from protocol.identity import SERVER


def terms(*overrides: str, num_sites: int = 5, largest_site: int | None = 800) -> SecureTerms:
    config = load_config(None, [f"partition.num_sites={num_sites}", *overrides])
    return choose_terms(config, num_parameters=640_000, largest_site=largest_site)


def roster_of(num_sites: int) -> Roster:
    return Roster.create(
        federation_id="tests",
        owner_key=Identity.generate("owner").public_key,
        server_key=Identity.generate(SERVER).public_key,
        keys={f"s{k:03d}": Identity.generate(f"s{k:03d}").public_key for k in range(num_sites)},
    )


@pytest.mark.parametrize(
    ("num_sites", "t", "c"), [(5, 4, 1), (10, 6, 1), (16, 10, 2), (64, 36, 7), (128, 71, 13)]
)
def test_thresholds_are_those_of_the_protocol_page(num_sites: int, t: int, c: int) -> None:
    found = terms(num_sites=num_sites)
    assert (found.threshold, found.num_colluders) == (t, c)
    assert found.threshold - found.num_colluders >= 3


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("num_sites", [5, 64, 128])
def test_no_sum_wraps_around_and_every_site_accepts_the_servers_offer(
    num_sites: int, word_bits: int
) -> None:
    found = terms(f"secure_aggregation.word_bits={word_bits}", num_sites=num_sites)
    found.fixed_point.check_no_wrap(num_clients=num_sites)
    roster = roster_of(num_sites)
    cohort = tuple(id for id, _ in roster.members)
    spec = found.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"model", previous=bytes(32)
    )
    found.policy(roster).check(spec, own_id=cohort[0], roster=roster)
    assert spec.masked_size == found.masked_bytes
    # Twice the scale would wrap, so that no bit is left unused.
    with pytest.raises(ValueError, match="wider words"):
        dataclasses.replace(spec, scale=2 * found.scale)


@pytest.mark.parametrize(
    ("num_sites", "participation", "n", "t", "c"),
    [(20, 0.5, 10, 7, 2), (64, 0.5, 32, 20, 7), (20, 1.0, 20, 12, 2), (100, 0.15, 15, 13, 10)],
)
def test_colluders_are_counted_on_all_sites_whatever_the_cohort(
    num_sites: int, participation: float, n: int, t: int, c: int
) -> None:
    settings = f"federation.participation={participation}", "secure_aggregation.dropout=0"
    found = terms(*settings, num_sites=num_sites)
    assert (found.cohort_size, found.threshold, found.num_colluders) == (n, t, c)
    assert 2 * t - n > c
    assert found.num_honest == t - c >= 3


def test_cohort_too_small_for_the_colluders_of_all_sites_is_refused() -> None:
    with pytest.raises(ConfigError, match="12 of 100 sites"):
        terms("federation.participation=0.12", num_sites=100)


def test_shrunken_cohort_keeps_the_honest_inputs_of_the_plan() -> None:
    """64 sites, a third colluding: a cohort of 33 once passed with 22 honest ones, really 11."""
    found, roster = terms("secure_aggregation.collusion=0.3333", num_sites=64), roster_of(64)
    assert (found.num_colluders, found.threshold, found.num_honest) == (22, 44, 22)
    cohort = tuple(id for id, _ in roster.members)
    spec = found.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"model", previous=bytes(32)
    )
    shrunk = dataclasses.replace(
        spec, cohort=cohort[:33], threshold=33, quorum=33, num_colluders=11
    )
    with pytest.raises(RemoteProtocolError, match="num_colluders is 11, policy asks for 22"):
        found.policy(roster).check(shrunk, own_id=cohort[0], roster=roster)


def test_smaller_cohort_is_accepted_as_a_retry_and_refused_as_a_way_to_lower_t() -> None:
    """Ten sites approved t = 6; a server that asks five of them would need four."""
    found, roster = terms(num_sites=10), roster_of(10)
    cohort = tuple(id for id, _ in roster.members)
    spec = found.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"model", previous=bytes(32)
    )
    policy = found.policy(roster)
    policy.check(spec.next_attempt(cohort=cohort[:8]), own_id=cohort[0], roster=roster)
    few = dataclasses.replace(spec, cohort=cohort[:5], threshold=4, quorum=4)
    with pytest.raises(RemoteProtocolError, match="quorum leaves fewer than 5 honest inputs"):
        policy.check(few, own_id=cohort[0], roster=roster)


def test_the_weaker_graph_is_in_offers_policies_and_records() -> None:
    found = terms("secure_aggregation.graph=regular", num_sites=200)
    roster = roster_of(200)
    cohort = tuple(id for id, _ in roster.members)
    spec = found.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"model", previous=bytes(32)
    )
    assert (spec.degree, spec.threshold, spec.quorum, spec.num_colluders) == (56, 39, 180, 20)
    found.policy(roster).check(spec, own_id=cohort[0], roster=roster)
    record = found.record
    assert TermsRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert "a WEAKER graph: each site shares masks with 56 of 199 others" in str(record.assumption)
    complete = terms(num_sites=100).record.to_dict()
    assert not {"graph", "assumption"} & complete.keys()


def test_three_bytes_a_parameter_by_default() -> None:
    found = choose_terms(load_config(None), num_parameters=35_700_000, largest_site=10_000)
    assert 3 <= found.masked_bytes / 35_700_000 < 3.000001


@pytest.mark.parametrize("num_sites", [1, 2, 3, 4])
def test_fewer_than_five_sites_are_refused_by_name(num_sites: int) -> None:
    with pytest.raises(ConfigError) as caught:
        terms(num_sites=num_sites)
    text = str(caught.value)
    assert "at least 5 sites" in text
    assert f"there would be {num_sites}" in text
    assert "partition.num_sites" in text
    assert "secure_aggregation.mode=off" in text
    assert ("allow_no_colluders" in text) == (num_sites in (3, 4))


@pytest.mark.parametrize("num_sites", [3, 4])
def test_three_or_four_sites_without_a_colluder_are_accepted_by_their_own_policy(
    num_sites: int,
) -> None:
    settings = "secure_aggregation.collusion=0", "secure_aggregation.dropout=0"
    found, roster = terms(*settings, num_sites=num_sites), roster_of(num_sites)
    assert (found.threshold, found.num_colluders, found.num_honest) == (3, 0, 3)
    cohort = tuple(id for id, _ in roster.members)
    spec = found.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"model", previous=bytes(32)
    )
    found.policy(roster).check(spec, own_id=cohort[0], roster=roster)


def test_dropout_that_three_sites_cannot_bear_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"dropout=0\.1: set secure_aggregation\.dropout=0$"):
        terms("secure_aggregation.collusion=0", num_sites=3)


def test_no_colluder_is_no_default_of_five_sites() -> None:
    assert terms("secure_aggregation.collusion=0", num_sites=5).num_colluders == 1


def test_small_cohorts_of_many_sites_are_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"federation\.participation"):
        terms("federation.participation=0.3", num_sites=12)
    found = terms("federation.participation=0.3", "federation.min_sites=6", num_sites=12)
    assert found.cohort_size == 6


@pytest.mark.parametrize(
    ("overrides", "num_sites"),
    [
        (["secure_aggregation.dropout=0.3"], 5),
        (["secure_aggregation.collusion=0.45"], 5),
    ],
)
def test_demands_that_cannot_be_met_are_refused(overrides: list[str], num_sites: int) -> None:
    with pytest.raises(ConfigError, match=r"secure_aggregation\.collusion"):
        terms(*overrides, num_sites=num_sites)


def test_bound_on_images_is_public_between_machines() -> None:
    with pytest.raises(ConfigError, match=r"secure_aggregation\.max_images"):
        terms(largest_site=None)
    assert terms("secure_aggregation.max_images=5000", largest_site=None).max_images == 5000
    assert [terms(largest_site=n).max_images for n in (1, 800, 1024, 1025)] == [1, 1024, 1024, 2048]


def test_clips_follow_the_settings_or_the_size_of_the_model() -> None:
    assert terms().clip_norm == pytest.approx(0.05 * 800)
    assert terms("secure_aggregation.clip_norm=3").clip_norm == 3
    # The norm bounds each coordinate too, and a smaller range is a finer rounding.
    small = terms("secure_aggregation.clip_norm=0.25")
    assert (small.clip_value, small.scale) == (0.25, 4 * terms().scale)


def test_terms_bind_what_decides_an_update() -> None:
    base = terms()
    assert terms() == base
    assert terms("output.num_samples=4") == base
    other_seed = terms("seed=3")
    assert dataclasses.replace(other_seed, draw=base.draw) == base != other_seed
    for change in (
        "training.learning_rate=0.5",
        "model.mid_attention=false",
        "federation.rounds=11",
        "secure_aggregation.clip_norm=7",
        "diffusion.schedule=linear",
    ):
        assert terms(change).policy_hash != base.policy_hash, change


@pytest.mark.parametrize(
    ("participation", "min_sites", "size"), [(1.0, 1, 10), (0.5, 1, 5), (0.01, 7, 7), (0.01, 1, 1)]
)
def test_cohort_size_is_that_of_the_draw(participation: float, min_sites: int, size: int) -> None:
    from phoenix_secure.federation.round.cohort import draw_cohort
    from phoenix_secure.rng import SeedTree

    config = load_config(
        None,
        [
            "partition.num_sites=10",
            f"federation.participation={participation}",
            f"federation.min_sites={min_sites}",
        ],
    )
    drawn = draw_cohort(
        tuple("abcdefghij"),
        participation=participation,
        min_sites=min_sites,
        rng=SeedTree(0).numpy(),
    )
    assert cohort_size(config) == len(drawn) == size
