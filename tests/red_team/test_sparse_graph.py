"""A sparse graph is taken only by owners who allow for it, and never a sparser one than agreed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.round.report import TermsRecord
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.federation.site.policy import SitePolicy
from protocol import ClientPolicy, Identity, RemoteProtocolError, Roster, RoundSpec
from protocol.identity import SERVER

NUM_SITES = 200
SPARSE = "secure_aggregation.graph=regular"
SHAPE = ("data.name=digits", "data.image_size=8", "data.channels=1")


@pytest.fixture(scope="module")
def roster() -> Roster:
    names = [f"site-{number:03d}" for number in range(NUM_SITES)]
    return Roster.create(
        federation_id="tests",
        owner_key=Identity.generate("owner").public_key,
        server_key=Identity.generate(SERVER).public_key,
        keys={name: Identity.generate(name).public_key for name in names},
    )


@pytest.fixture(scope="module")
def offered(roster: Roster) -> tuple[RoundSpec, ClientPolicy]:
    config = load_config(None, [f"partition.num_sites={NUM_SITES}", SPARSE])
    terms = choose_terms(config, num_parameters=100, largest_site=9)
    cohort = tuple(name for name, _ in roster.members)
    spec = terms.spec(
        roster=roster, cohort=cohort, protocol_round=1, model=b"m", previous=bytes(32)
    )
    return spec, terms.policy(roster)


def refusal(policy: ClientPolicy, spec: RoundSpec, roster: Roster) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        policy.check(spec, own_id=spec.cohort[0], roster=roster)
    return caught.value.detail


def test_the_agreed_graph_is_accepted(
    offered: tuple[RoundSpec, ClientPolicy], roster: Roster
) -> None:
    spec, policy = offered
    assert 0 < spec.degree < NUM_SITES - 1
    policy.check(spec, own_id=spec.cohort[0], roster=roster)


def test_a_sparser_graph_than_agreed_is_refused(
    offered: tuple[RoundSpec, ClientPolicy], roster: Roster
) -> None:
    spec, policy = offered
    sparser = replace(spec, degree=spec.degree - 2, threshold=spec.degree - 2)
    assert "sparser graph" in refusal(policy, sparser, roster)


def test_fewer_shares_or_signatures_than_agreed_are_refused(
    offered: tuple[RoundSpec, ClientPolicy], roster: Roster
) -> None:
    spec, policy = offered
    assert "threshold is" in refusal(policy, replace(spec, threshold=spec.threshold - 1), roster)
    with pytest.raises(ValueError, match="2 \\* quorum - cohort size > num_colluders"):
        replace(spec, quorum=spec.quorum - 1)
    fewer = replace(spec, quorum=spec.quorum - 1, num_colluders=spec.num_colluders - 2)
    assert "num_colluders is" in refusal(policy, fewer, roster)


def test_a_site_whose_plan_has_the_complete_graph_refuses_a_sparse_one(
    offered: tuple[RoundSpec, ClientPolicy], roster: Roster
) -> None:
    spec, policy = offered
    complete = replace(policy, min_degree=0, min_threshold=0)
    assert "sparser graph" in refusal(complete, spec, roster)


def plan_of(roster: Roster, *overrides: str) -> Plan:
    settings = [*SHAPE, f"partition.num_sites={NUM_SITES}", SPARSE, *overrides]
    return Plan.make(load_config(None, settings), roster=roster, bundle_hash="ab" * 32)


def test_owner_allows_for_it_by_name_and_reads_what_it_means(roster: Roster) -> None:
    plan = plan_of(roster)
    lowered = SitePolicy(min_sites=1, min_collusion=0)
    assert "policy.allow_sparse_graph: true" in (lowered.objection(plan) or "")
    allowed = SitePolicy(allow_sparse_graph=True)
    assert allowed.objection(plan) is None
    sheet = PlanSheet.of(plan, policy=allowed).facts()
    assert "WEAKER THAN THE COMPLETE GRAPH" in sheet["bounds"]["graph"]
    # Nothing else is loosened by it.
    fewer = plan_of(roster, "secure_aggregation.collusion=0.05")
    assert "collusion is below 0.1" in str(allowed.objection(fewer))


def test_records_say_it_and_those_of_before_keep_their_bytes() -> None:
    config = load_config(None, [f"partition.num_sites={NUM_SITES}", SPARSE])
    sparse = choose_terms(config, num_parameters=100, largest_site=9).record
    assert TermsRecord.from_dict(sparse.to_dict()) == sparse
    assert "WEAKER" in sparse.to_dict()["assumption"]
    complete = choose_terms(load_config(None), num_parameters=100, largest_site=9).record
    assert not {"degree", "assumption"} & set(complete.to_dict())
    assert TermsRecord.from_dict(complete.to_dict()) == complete
