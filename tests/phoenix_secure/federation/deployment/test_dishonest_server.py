"""A malicious server with the real keys against real sites: refused, named, written down.

Over folders in every test run; over TLS, SuperLink and site processes among the slow tests.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest

import dishonest
from phoenix_secure.federation.engines.exchange import FailureCode
from protocol import RemoteProtocolError, SessionAborted
from protocol.messages import Envelope, KeyDirectory, ShareDelivery, SignatureQuorum, SurvivorList

_seeds = itertools.count(100)


@pytest.fixture(params=["folders", pytest.param("network", marks=pytest.mark.slow)])
def server(request):
    """A dishonest server and five sites that approved its plan."""
    if request.param == "folders":
        federation = request.getfixturevalue("folder_federation")
        federation.start()
    else:
        federation = request.getfixturevalue("network")
    made = dishonest.DishonestServer(federation, federation.job(f"seed={next(_seeds)}"))
    yield made
    made.close()


def test_lowered_threshold_is_refused(server) -> None:
    """Three of five would do: two disjoint quorums, two sums to subtract."""
    model = server.model()
    weak = dishonest.forged(server.spec(model), threshold=3, quorum=3)
    offer = dict.fromkeys(server.sites, server.offer(weak, model))
    server.is_refused("announce", offer, why="2 * quorum - cohort size > num_colluders")
    # The same round as it should be is still possible: nobody was put out by the attempt.
    server.honestly(server.spec(model), model, until="mask")


def test_share_threshold_below_the_quorum_is_refused(server) -> None:
    model = server.model()
    weak = dishonest.forged(server.spec(model), threshold=2)
    offer = dict.fromkeys(server.sites, server.offer(weak, model))
    server.is_refused("announce", offer, why="threshold equal to quorum")
    assert server.answered("announce") == []


def test_cohort_without_honest_sites_is_refused(server) -> None:
    """Four sites of which the server might run one: a sum over three."""
    model = server.model()
    few = server.sites[:4]
    small = dataclasses.replace(server.spec(model), cohort=few, threshold=3, quorum=3)
    offer = dict.fromkeys(few, server.offer(small, model))
    server.is_refused("announce", offer, why="cohort has 4 sites, policy asks for 5")
    other = dict.fromkeys(server.sites[4:], server.offer(small, model))
    server.is_refused("announce", other, why="cohort does not hold this site")
    assert server.answered("announce") == []


def test_other_model_than_the_computed_one_is_refused(server) -> None:
    second = server.model(moved_by=1e-3)
    offer = dict.fromkeys(server.sites[3:], server.offer(server.spec(second), second))
    server.is_refused(
        "announce", offer, why="is not the one that follows", code=FailureCode.ANOTHER_MODEL
    )
    assert server.answered("announce") == []


def test_keys_of_two_offers_never_meet_in_one_sum(server) -> None:
    """Two sums of half the sites would tell more than one over all."""
    model = server.model()
    specs = [server.spec(model), server.spec(model, protocol_round=2)]
    halves = server.sites[:3], server.sites[3:]
    requests = {
        site: server.offer(spec, model)
        for half, spec in zip(halves, specs, strict=True)
        for site in half
    }
    keys = {site: answer.body for site, answer in server.ask("announce", requests).items()}
    session = server.session(specs[0])
    for site in halves[0]:
        session.receive(site, keys[site])
    # The honest program takes no key that was made for the other offer ...
    for site in halves[1]:
        with pytest.raises(RemoteProtocolError, match="another round or attempt"):
            session.receive(site, keys[site])
    with pytest.raises(SessionAborted, match="too few sites left"):
        session.close_stage()
    # ... and sites take no directory that mixes both halves, nor one of their half alone.
    for half, spec in zip(halves, specs, strict=True):
        all_keys = KeyDirectory(advertisements=tuple(keys[site] for site in server.sites))
        directory = server.signed(all_keys, spec)
        server.is_refused("share", dict.fromkeys(half, directory), why="another round or attempt")
    assert server.answered("share") == []


def test_half_a_cohort_is_refused_as_too_few(server) -> None:
    model = server.model()
    spec = server.spec(model)
    offers = dict.fromkeys(server.sites, server.offer(spec, model))
    keys = {site: answer.body for site, answer in server.ask("announce", offers).items()}
    three = server.sites[:3]
    directory = server.signed(KeyDirectory(advertisements=tuple(keys[s] for s in three)), spec)
    server.is_refused("share", dict.fromkeys(three, directory), why="fewer members or signatures")
    assert server.answered("share") == []


def test_shares_of_too_few_dealers_are_refused_before_anything_is_masked(server) -> None:
    model = server.model()
    spec = server.spec(model)
    _, requests = server.honestly(spec, model, until="share")
    three = server.sites[:3]
    short = {}
    for site in three:
        body = Envelope.parse(requests[site], peer="server", max_size=1 << 20).body
        true = ShareDelivery.decode(body, peer="server", max_members=5)
        kept = tuple(share for share in true.shares if share.dealer in three)
        short[site] = server.signed(ShareDelivery(dealers=three, shares=kept), spec)
    server.is_refused("mask", short, why="fewer members or signatures than the quorum")
    assert server.answered("mask") == []


@pytest.mark.long
@pytest.mark.parametrize("left_out", ["the asked", "two others"])
def test_survivor_list_that_drops_honest_sites_is_refused(server, left_out: str) -> None:
    model = server.model()
    spec = server.spec(model)
    session, requests = server.honestly(spec, model, until="mask")
    body = Envelope.parse(requests["site-01"], peer="server", max_size=1 << 20).body
    true = SurvivorList.decode(body, peer="server", max_members=5)
    if left_out == "the asked":
        asked, named, why = ("site-05",), server.sites[:4], "left out"
    else:
        asked, named, why = server.sites[:3], server.sites[:3], "than the quorum"
    false = server.signed(dataclasses.replace(true, survivors=named), spec)
    server.is_refused("check", dict.fromkeys(asked, false), why=why)
    assert server.answered("check") == []
    assert server.sees_only_noise(spec)
    with pytest.raises(SessionAborted, match="too few sites left"):
        session.close_stage()


@pytest.mark.long
def test_second_survivor_set_is_never_signed_nor_unmasked(server) -> None:
    """The difference of two sums of one round is one site's update."""
    model = server.model()
    spec = server.spec(model)
    session, requests = server.honestly(spec, model, until="mask")
    body = Envelope.parse(requests["site-01"], peer="server", max_size=1 << 20).body
    true = SurvivorList.decode(body, peer="server", max_members=5)
    four = server.sites[:4]
    fewer = dict.fromkeys(four, server.signed(dataclasses.replace(true, survivors=four), spec))
    signed = server.ask("check", requests)
    # In the same attempt, in another one of the round, and under a new number.
    server.is_refused("check", fewer, why="a second, different request")
    again = spec.next_attempt(cohort=server.sites)
    offer = dict.fromkeys(server.sites, server.offer(again, model))
    server.is_refused("announce", offer, why="round already signed")
    for site, answer in signed.items():
        session.receive(site, answer.body)
    unmask = session.close_stage().outbound
    answers = server.ask("unmask", unmask)
    for site, answer in answers.items():
        session.receive(site, answer.body)
    session.close_stage()
    less = SignatureQuorum.decode(
        Envelope.parse(unmask["site-01"], peer="server", max_size=1 << 20).body,
        peer="server",
        max_members=5,
    )
    less = server.signed(SignatureQuorum(signatures=less.signatures[:4]), spec)
    server.is_refused("unmask", dict.fromkeys(four, less), why="a second, different request")
    new = server.spec(model, protocol_round=2)
    _, requests = server.honestly(new, model, until="mask")
    body = Envelope.parse(requests["site-01"], peer="server", max_size=1 << 20).body
    second = SurvivorList.decode(body, peer="server", max_members=5)
    second = server.signed(dataclasses.replace(second, survivors=four), new)
    server.is_refused("check", dict.fromkeys(four, second), why="already signed this round")
    assert server.sees_only_noise(new)
    assert sorted(server.answered("unmask")) == list(server.sites)  # once each: the true sum


def test_signed_round_on_another_model_is_refused(server) -> None:
    model, nearly = server.model(), server.model(moved_by=1e-6)
    server.honestly(server.spec(model), model, until="check")
    offer = server.offer(server.spec(nearly, protocol_round=2), nearly)
    server.is_refused(
        "announce",
        dict.fromkeys(server.sites, offer),
        why="is not the one that follows",
        code=FailureCode.ANOTHER_MODEL,
    )


@pytest.mark.long
@pytest.mark.parametrize("trick", ["three signatures", "a forged one"])
def test_unmasking_without_a_quorum_of_true_signatures_is_refused(server, trick: str) -> None:
    model = server.model()
    spec = server.spec(model)
    session, requests = server.honestly(spec, model, until="check")
    body = Envelope.parse(requests["site-01"], peer="server", max_size=1 << 20).body
    signatures = SignatureQuorum.decode(body, peer="server", max_members=5).signatures
    if trick == "three signatures":
        false, why = signatures[:3], "than the quorum: signatures"
    else:
        false, why = (*signatures[:3], ("site-04", bytes(64))), "survivors by site-04"
    message = server.signed(SignatureQuorum(signatures=false), spec)
    server.is_refused("unmask", dict.fromkeys(server.sites, message), why=why)
    assert server.answered("unmask") == []
    assert server.sees_only_noise(spec)
    with pytest.raises(SessionAborted, match="too few sites left"):
        session.close_stage()
