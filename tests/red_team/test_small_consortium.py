"""Three or four sites that assume no colluder (c = 0), and a server that makes the most of it.

The server holds its real key. The sites are honest. Where one is not, the assumption is broken, and
the tests say what is left: never one site's update alone, and never a model on one site's word.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import protocol_simulation
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.confirmation import Certificate
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.offers import CatchUp, RoundOffer, state_to_bytes
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.sums import KeptSums
from phoenix_secure.federation.server.suspects import SuspectSearch
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.federation.site.policy import SitePolicy
from protocol import RoundSpec, SessionAborted
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import SERVER
from protocol.messages import Envelope, KeyDirectory, RoundAnnouncement, SurvivorList, seal

NONE = "secure_aggregation.collusion=0"
NO_DROPOUT = "secure_aggregation.dropout=0"
SUM = "secure_aggregation.broadcast=sum"
# Stages of the protocol, by their number in ``protocol_simulation.Round``.
SHARE, MASK, CHECK, UNMASK = 1, 2, 3, 4


def consortium(num_sites: int, *, allowed: bool = True) -> protocol_simulation.Federation:
    """Sites whose policy for rounds allows for no colluders, or does not."""
    made = protocol_simulation.Federation(num_sites, collusion=0.0)
    if allowed:
        made.policy = replace(made.policy, allow_no_colluders=True, min_cohort=3)
    return made


def refusal(members, spec: RoundSpec | None = None) -> str:
    """The reason for which the first site refuses the offer; it shows no key."""
    client = members.client(members.ids[0])
    offer = members.server(spec).start().outbound[members.ids[0]]
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(offer)
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
    assert client.state == "Idle"
    return caught.value.detail


@pytest.mark.parametrize("num_sites", [3, 4])
def test_site_without_the_opt_in_refuses(num_sites: int) -> None:
    assert refusal(consortium(num_sites, allowed=False)).startswith("num_colluders is 0")


def test_two_sites_are_refused_whatever_they_allow() -> None:
    with pytest.raises(ConfigError, match="at least 3 sites in a round, and there would be 2"):
        choose_terms(
            load_config(None, ["partition.num_sites=2", NONE]), num_parameters=4, largest_site=9
        )
    members = consortium(3)
    for quorum in (1, 2):
        spec = replace(members.spec, cohort=members.ids[:2], quorum=2, threshold=2)
        assert refusal(members, spec).startswith("cohort has 2 sites")
        with pytest.raises(ValueError, match="min_cohort"):
            replace(members.policy, min_cohort=quorum)


def test_larger_federation_assumes_a_colluder_whatever_the_server_says() -> None:
    members = protocol_simulation.Federation(6, collusion=0.0)
    assert members.spec.num_colluders == 1
    members.policy = replace(members.policy, allow_no_colluders=True, min_cohort=3)
    few = dict(cohort=members.ids[:4], quorum=3, threshold=3, num_colluders=0)
    assert refusal(members, replace(members.spec, **few)) == "num_colluders is 0, policy asks for 1"
    with pytest.raises(ValueError, match="1 <= num_colluders"):
        replace(members.spec, **few | {"cohort": members.ids[:5]})


@pytest.mark.parametrize("quorum", [1, 2])
def test_lower_quorum_than_three_is_refused(quorum: int) -> None:
    members = consortium(3)
    try:
        spec = replace(members.spec, quorum=quorum, threshold=quorum)
    except ValueError:
        return  # no such specification can be written
    assert refusal(members, spec) == "quorum leaves fewer than 3 honest inputs"


def test_two_stories_about_colluders_lead_to_no_sum() -> None:
    """c = 0 towards two sites, c = 1 towards the others, who would accept each: it is stricter."""
    members = consortium(4)
    stricter = replace(members.spec, num_colluders=1, quorum=4, threshold=4)
    told = {id: members.spec if n < 2 else stricter for n, id in enumerate(members.ids)}
    clients, shown = {}, {}
    for id, spec in told.items():
        clients[id] = members.client(id)
        clients[id].receive(members.server(spec).start().outbound[id])
        shown[id] = clients[id].accept_model(protocol_simulation.MODEL).outbound
        clients[id].provide_input(members.words(id), extra=members.extra_words(id))
    for id, spec in told.items():
        directory = KeyDirectory(advertisements=tuple(shown[each] for each in sorted(shown)))
        said = seal(
            members.server_identity,
            label=directory.LABEL,
            context=spec.context,
            body=directory.encode(),
        )
        with pytest.raises(SessionAborted) as caught:
            clients[id].receive(said)
        assert caught.value.culprits == (SERVER,)


# Drop-outs and survivor sets.


@pytest.mark.parametrize("stage", [0, SHARE, MASK, CHECK, UNMASK])
def test_fourth_site_may_vanish_at_any_stage(stage: int) -> None:
    members = consortium(4)
    gone = members.ids[1]
    completed = protocol_simulation.Round(members).run(absent={stage: (gone,)})
    survivors = [id for id in members.ids if id != gone or stage >= CHECK]
    assert list(completed.survivors) == survivors
    words = completed.words.view(np.int32)
    assert [*map(int, words), *completed.extra] == members.expected(survivors)


@pytest.mark.parametrize("stage", [0, SHARE, MASK, CHECK])
def test_one_of_three_that_vanishes_ends_the_attempt_and_nothing_is_opened(stage: int) -> None:
    members = consortium(3)
    attempt = protocol_simulation.Round(members)
    with pytest.raises(SessionAborted):
        attempt.run(absent={stage: (members.ids[1],)})
    assert attempt.completed is None
    assert UNMASK not in {at for at, *_ in attempt.log}, "no share was revealed"


def test_two_of_three_that_unmask_open_nothing() -> None:
    members = consortium(3)
    attempt = protocol_simulation.Round(members)
    with pytest.raises(SessionAborted):
        attempt.run(absent={UNMASK: (members.ids[1],)})
    assert attempt.completed is None
    # Two of three shares of every secret are out, and a new attempt over other survivors is not.
    assert len([at for at, *_ in attempt.log if at == UNMASK]) == 2
    assert members.spec.threshold == 3


def test_no_site_signs_a_sum_over_two() -> None:
    members = consortium(3)
    attempt = protocol_simulation.Round(members)
    for _ in (0, SHARE, MASK):
        attempt.step()
    for id in members.ids[:2]:
        honest = Envelope.parse(attempt.outbound[id], peer=SERVER, max_size=1 << 16)
        h2 = SurvivorList.decode(honest.body, peer=SERVER, max_members=3).h2
        two = SurvivorList(h2=h2, survivors=members.ids[:2])
        with pytest.raises(SessionAborted, match=Misbehaviour.BELOW_QUORUM.value):
            attempt.clients[id].receive(
                members.reseal(SERVER, attempt.outbound[id], body=two.encode())
            )


@pytest.mark.parametrize("num_sites", [3, 4])
def test_one_site_that_lies_after_all_cannot_sign_two_sets_into_being(num_sites: int) -> None:
    spec = consortium(num_sites).spec
    assert 2 * spec.quorum - num_sites > 1
    assert spec.quorum - 1 >= 2, "its own part taken out, two others hide each other"


def test_false_complaint_opens_too_few_shares(secure_parties, liars, liar, tmp_path: Path) -> None:
    """A site that complains falsely hands its share of another's secrets over: one of three."""
    parties = secure_parties.Parties(tmp_path, NONE, num_sites=4)
    cheat = liar(parties, "site-04")

    def lie(body, honest) -> bytes:
        complaint, _ = liars.false_complaint(cheat, cheat.session, body, "site-01")
        return liars.complaint_message(cheat, complaint, "site-04", honest())

    cheat.lies_at("mask", lie)
    found = parties.sum()
    assert found.sites == parties.names[:3]
    np.testing.assert_array_equal(found.update, parties.oracle(found.sites))
    assert parties.terms.threshold == 3


# Models on the word of one site.


def away_in_round_two(secure_parties, path: Path):
    """Four sites after two rounds, of which the last one missed the second."""
    made = secure_parties.Parties(path, SUM, NONE, num_sites=4)
    server = made.aggregator()
    made.next_round(server)
    made.engine.fault = lambda stage, site, exchange: "before" if site == "site-04" else None
    made.next_round(server)
    made.engine.fault = lambda stage, site, exchange: None
    return made


def test_one_signature_makes_no_site_take_a_model(secure_parties, tmp_path: Path) -> None:
    parties = away_in_round_two(secure_parties, tmp_path)
    assert parties.terms.num_colluders == 0
    sums = KeptSums(tmp_path / "server" / "sums", keep=3, packed_size=parties.terms.masked_bytes)
    true = sums.load(2).certificate
    state = replace(parties.state, parameters=parties.state.parameters * np.float32(50))
    claim = replace(true.claim, state=state.digest)
    confirmed = claim.confirmed_by(parties.identities["site-01"], roster=parties.roster)
    invented = Certificate(claim=claim, signatures=(("site-01", confirmed.signature),))
    alone = replace(true, signatures=true.signatures[:1])
    for certificate, sent in ((invented, state), (alone, parties.state)):
        late = CatchUp(certificate=certificate, state=state_to_bytes(sent))
        with pytest.raises(SiteFailure) as caught:
            parties.sites["site-04"].handle("announce", _offer(parties, sent, late))
        assert caught.value.code is FailureCode.BEHIND
        assert "2 are needed" in caught.value.why
    late = CatchUp(certificate=true, state=state_to_bytes(parties.state))
    assert parties.sites["site-04"].handle("announce", _offer(parties, parties.state, late))


def _offer(parties, state, catch_up: CatchUp) -> bytes:
    journal = SecureJournal(parties.path / "server" / "rounds.jsonl")
    model = parties.rule.request(state, round_number=3).to_bytes()
    spec = parties.terms.spec(
        roster=parties.roster,
        cohort=parties.names,
        protocol_round=journal.reserve(3),
        model=model,
        previous=journal.previous,
    )
    body = RoundAnnouncement(spec=spec)
    said = seal(parties.server, label=body.LABEL, context=spec.context, body=body.encode())
    return RoundOffer(announcement=said, round_number=3, base=2, catch_up=catch_up).to_bytes()


def test_server_goes_on_with_two_signatures_and_not_with_one(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path, SUM, NONE, NO_DROPOUT, num_sites=3)
    parties.engine.fault = lambda stage, site, exchange: (
        "after" if stage == "result" and site != "site-01" else None
    )
    with pytest.raises(TrainingError):
        parties.next_round()
    parties.engine.fault = lambda stage, site, exchange: (
        "after" if stage == "result" and site == "site-03" else None
    )
    assert parties.next_round().sites == parties.names
    parties.engine.fault = lambda stage, site, exchange: None
    assert parties.next_round().sites == parties.names


# A refused sum, and what owners and readers are told.


def test_refused_sum_sets_nobody_aside(secure_parties, tmp_path: Path) -> None:
    terms = secure_parties.Parties(tmp_path, NONE, num_sites=4).terms
    members = tuple(f"site-{k}" for k in range(4))
    search = SuspectSearch(members, terms=terms)
    wrong = search.wrong(1, "no honest sites enter such a sum", survivors=members)
    assert not wrong.search_goes_on
    assert "assumes that every site is honest" in str(wrong)
    assert not search.convicted
    assert not search.set_aside(members)


SHAPE = ("data.name=digits", "data.image_size=8", "data.channels=1")


def plan_of(*overrides: str, num_sites: int = 3) -> Plan:
    config = load_config(None, [*SHAPE, f"partition.num_sites={num_sites}", *overrides])
    roster = protocol_simulation.Federation(num_sites, collusion=0.0).roster
    return Plan.make(config, roster=roster, bundle_hash="ab" * 32)


@pytest.mark.parametrize("num_sites", [3, 4])
def test_owner_allows_for_it_by_name_and_reads_what_it_means(num_sites: int) -> None:
    plan = plan_of(NONE, num_sites=num_sites)
    # Every other limit was lowered as far as it goes: none of them stands for this one.
    lowered = SitePolicy(min_sites=1, min_collusion=0)
    assert "policy.allow_no_colluders: true" in (lowered.objection(plan) or "")
    allowed = SitePolicy(min_sites=num_sites, allow_no_colluders=True)
    assert allowed.objection(plan) is None
    assert "partition.num_sites is below 5" in str(
        SitePolicy(allow_no_colluders=True).objection(plan)
    )
    facts = PlanSheet.of(plan, policy=allowed).facts()
    assert "ONLY IF NO SITE works with the server" in facts["secure_aggregation"]
    # Nothing else is loosened by it.
    assert "collusion is below 0.1" in str(
        SitePolicy(allow_no_colluders=True).objection(plan_of(NONE, num_sites=5))
    )


@pytest.mark.long
def test_epsilon_of_summed_noise_leaves_out_the_share_of_a_site_that_looks() -> None:
    """With c = 1 a site that looks for itself is the colluder; here one share less is counted."""
    config = load_config(
        None,
        [
            "partition.num_sites=3",
            *("federation.exchange=gradients", "federation.server_optimizer=fedadam"),
            *("federation.rounds=2", "training.local_steps=1", "training.batch_size=40"),
            *("training.warmup_steps=0", "training.grad_clip=null"),
            *("privacy.unit=record", "privacy.trust=sum", "privacy.epsilon=8"),
            *("privacy.sampling_rate=0.02", "privacy.clip_norm=0.5"),
            "secure_aggregation.word_bits=32",
            NONE,
            NO_DROPOUT,
        ],
    )
    terms = choose_terms(config, num_parameters=16)
    assert (terms.num_honest, terms.noise.event.num_shares) == (3, 2)
    guarantee = guarantee_of(config, plan_privacy(config, terms=terms), terms=terms)
    assert "none of the 3 sites works with the server or with another site" in guarantee.text
    assert dataclasses.asdict(terms.record)["c"] == 0
    assert "ONLY IF NO SITE" in terms.record.to_dict()["assumption"]
