"""A server that proposes the k-regular graph, or another one than was agreed on.

Sites share masks with a few neighbours there, so that everything hangs on how many those are, how
many of them a secret takes, and how many sites may be missing from a sum. Nothing of that is the
server's to choose, and without the owner's word the graph is no choice at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import protocol_simulation
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.federation.site.policy import SitePolicy
from protocol import Identity, Roster, RoundSpec
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import SERVER

NUM_SITES = 200
SHAPE = ("data.name=digits", "data.image_size=8", "data.channels=1")
REGULAR = "secure_aggregation.graph=regular"


@pytest.fixture(scope="module")
def roster() -> Roster:
    names = ["owner", SERVER, *(f"site-{k:03d}" for k in range(NUM_SITES))]
    keys = {name: Identity.generate(name).public_key for name in names}
    return Roster.create(
        federation_id="many", owner_key=keys.pop("owner"), server_key=keys.pop(SERVER), keys=keys
    )


@pytest.fixture(scope="module")
def terms() -> SecureTerms:
    config = load_config(None, [f"partition.num_sites={NUM_SITES}", REGULAR])
    return choose_terms(config, num_parameters=9, largest_site=8)


def offer(terms: SecureTerms, roster: Roster) -> RoundSpec:
    return terms.spec(
        roster=roster,
        cohort=tuple(id for id, _ in roster.members),
        protocol_round=1,
        model=b"model",
        previous=bytes(32),
    )


def refusal(terms: SecureTerms, roster: Roster, spec: RoundSpec) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        terms.policy(roster).check(spec, own_id=spec.cohort[0], roster=roster)
    assert (caught.value.peer, caught.value.reason) == (SERVER, Misbehaviour.POLICY_REFUSED)
    return caught.value.detail


def test_agreed_graph_is_accepted(terms: SecureTerms, roster: Roster) -> None:
    spec = offer(terms, roster)
    assert (spec.degree, spec.threshold, spec.quorum) == (56, 39, 180)
    terms.policy(roster).check(spec, own_id=spec.cohort[0], roster=roster)


def test_site_that_agreed_on_the_complete_graph_refuses_a_regular_one() -> None:
    """In a whole session, before it shows a key."""
    members = protocol_simulation.Federation(12, collusion=0.1)
    sparse = replace(members.spec, degree=6, threshold=5)
    client = members.client(members.ids[0])
    with pytest.raises(RemoteProtocolError, match="degree asks for a sparser graph") as caught:
        client.receive(members.server(sparse).start().outbound[members.ids[0]])
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
    assert client.state == "Idle"


@pytest.mark.parametrize(
    ("announced", "said"),
    [
        (lambda s: replace(s, degree=s.degree - 2), "degree asks for a sparser graph"),
        (lambda s: replace(s, degree=2, threshold=2), "degree asks for a sparser graph"),
        (lambda s: replace(s, threshold=s.threshold - 1), "threshold is 38, policy asks for 39"),
        # More colluders around each site, and no more shares of them needed.
        (lambda s: replace(s, degree=s.degree + 18), "threshold is 39, too low for 74"),
        # More that vanish than the search counted: the survivors need not hang together.
        (lambda s: replace(s, quorum=s.quorum - 1), "quorum leaves fewer than 160 honest inputs"),
        (lambda s: replace(s, num_colluders=19), "num_colluders is 19, policy asks for 20"),
    ],
    ids=["sparser", "sparsest", "fewer shares", "denser alone", "fewer sites", "fewer colluders"],
)
def test_server_that_announces_a_weaker_graph_than_was_agreed_is_refused(
    terms: SecureTerms, roster: Roster, announced: Callable[[RoundSpec], RoundSpec], said: str
) -> None:
    assert refusal(terms, roster, announced(offer(terms, roster))).startswith(said)


def plan_of(roster: Roster, *overrides: str) -> Plan:
    config = load_config(None, [*SHAPE, f"partition.num_sites={NUM_SITES}", *overrides])
    return Plan.make(config, roster=roster, bundle_hash="ab" * 32)


def test_owner_allows_for_the_graph_by_name_and_reads_what_it_means(roster: Roster) -> None:
    plan = plan_of(roster, REGULAR)
    # Every other limit was lowered as far as it goes: none of them stands for this one.
    lowered = SitePolicy(min_sites=1, min_collusion=0, allow_no_colluders=True)
    assert "policy.allow_regular_graph: true" in (lowered.objection(plan) or "")
    allowed = SitePolicy(allow_regular_graph=True)
    assert allowed.objection(plan) is None
    facts = PlanSheet.of(plan, policy=allowed).facts()
    assert facts["settings_changed"]["secure_aggregation.graph"] == "regular"
    assert "a WEAKER graph" in facts["secure_aggregation"]
    assert "ONLY IF at most 20 sites work with the server" in facts["secure_aggregation"]
    assert facts["bounds"]["honest sites behind every sum, at least"] == 160
    # Nothing else is loosened by it.
    few = plan_of(roster, REGULAR, "secure_aggregation.collusion=0.05")
    assert "collusion is below 0.1" in str(allowed.objection(few))


def test_plan_that_names_no_graph_is_one_of_the_complete_graph(roster: Roster) -> None:
    """Too many for it: the sheet says so, and no site sums on another one in its place."""
    sheet = PlanSheet.of(plan_of(roster), policy=SitePolicy(allow_regular_graph=True))
    honest = sheet.facts()["bounds"]["honest sites behind every sum, at least"]
    assert "no such round is possible" in honest
    assert "secure_aggregation.graph=regular" in honest
