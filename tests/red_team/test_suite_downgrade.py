"""A server that talks a hybrid federation into curves alone, or mixes the suites."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.plan import Plan
from protocol import Misbehaviour, RemoteProtocolError
from protocol.messages import AdvertiseKeys, Envelope, RoundAnnouncement, seal
from protocol.suite import Suite
from protocol_simulation import MODEL, Federation, Round

HYBRID, CLASSICAL = Suite.HYBRID_PQ, Suite.CLASSICAL


@pytest.fixture
def members() -> Federation:
    return Federation(5, suite=HYBRID)


def offer(members: Federation, **changes: object) -> bytes:
    """Signed with the server's own key, as a server that cheats can."""
    spec = dataclasses.replace(members.spec, **changes)
    body = RoundAnnouncement(spec=spec).encode()
    return seal(
        members.server_identity, label=RoundAnnouncement.LABEL, context=spec.context, body=body
    )


@pytest.mark.parametrize("suite", [HYBRID, CLASSICAL])
def test_offer_of_the_other_suite_is_refused_by_name(suite: Suite) -> None:
    members = Federation(5, suite=suite)
    other = CLASSICAL if suite is HYBRID else HYBRID
    client = members.client(members.ids[0])
    with pytest.raises(RemoteProtocolError, match="suite") as caught:
        client.receive(offer(members, suite=other))
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
    assert client.state == "Idle"
    client.receive(offer(members))
    assert client.state == "Offered"


def test_policy_of_one_suite_takes_no_roster_of_the_other(members: Federation) -> None:
    weak = dataclasses.replace(members.policy, suite=CLASSICAL)
    client = members.client(members.ids[0], policy=weak)
    with pytest.raises(RemoteProtocolError, match="suite"):
        client.receive(offer(members, suite=CLASSICAL))


def test_suite_that_is_left_out_of_the_offer_changes_its_context(members: Federation) -> None:
    """The context of the hybrid round around the bytes of a classical one, and the reverse."""
    plain = dataclasses.replace(members.spec, suite=CLASSICAL)
    for body, context in (
        (RoundAnnouncement(spec=plain).encode(), members.spec.context),
        (RoundAnnouncement(spec=members.spec).encode(), plain.context),
    ):
        client = members.client(members.ids[0])
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(
                seal(
                    members.server_identity,
                    label=RoundAnnouncement.LABEL,
                    context=context,
                    body=body,
                )
            )
        assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT


def test_site_that_answers_with_classical_keys_is_refused(members: Federation) -> None:
    attempt = Round(members)
    id, data = members.ids[0], attempt.outbound[members.ids[0]]
    answer = attempt.answer(id, data)
    envelope = Envelope.parse(answer, peer=id, max_size=len(answer))
    honest = AdvertiseKeys.decode(envelope.body, peer=id, suite=HYBRID)
    weak = AdvertiseKeys(mask_key=honest.mask_key[:32], channel_key=honest.channel_key[:32])
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(
            id,
            seal(
                members.identities[id],
                label=AdvertiseKeys.LABEL,
                context=members.spec.context,
                body=weak.encode(),
            ),
        )
    assert caught.value.reason is Misbehaviour.MALFORMED


def test_server_that_swaps_an_encapsulation_key_is_refused(members: Federation) -> None:
    """It would decapsulate what others encapsulate to the site."""
    attempt = Round(members)
    attempt.step()
    directory = attempt.outbound[members.ids[0]]
    body = bytes(Envelope.parse(directory, peer="server", max_size=len(directory)).body)
    offers = attempt.clients[members.ids[1]]._state.channel_pair.offers
    mine, other = offers[members.ids[0]], offers[members.ids[2]]
    assert body.count(mine) == 1
    forged = members.reseal("server", directory, body=body.replace(mine, other))
    client = attempt.clients[members.ids[0]]
    with pytest.raises(Exception, match="the server broke the protocol"):
        client.receive(forged)


def test_attachment_that_was_changed_on_its_way_blames_nobody(members: Federation) -> None:
    attempt = Round(members)
    id = members.ids[0]
    answer = attempt.answer(id, attempt.outbound[id])
    changed = answer[:-1] + bytes([answer[-1] ^ 1])
    for forged in (changed, answer[: -(4 + 4 * (4 + 1184))]):
        with pytest.raises(RemoteProtocolError) as caught:
            attempt.server.receive(id, forged)
        assert caught.value.reason in (Misbehaviour.BAD_SIGNATURE, Misbehaviour.MALFORMED)
        assert attempt.server.excluded == {}
    attempt.server.receive(id, answer)


def test_attachments_are_for_keys_alone(members: Federation) -> None:
    client = members.client(members.ids[0])
    envelope = offer(members)
    with pytest.raises(RemoteProtocolError, match="attachment"):
        client.receive(envelope + (1).to_bytes(4, "big") + b"x")
    client.receive(envelope)
    client.accept_model(MODEL)


def test_plan_of_another_suite_than_the_roster_is_not_made(members: Federation) -> None:
    settings = [
        "partition.num_sites=5",
        "data.image_size=8",
        "data.channels=1",
        "secure_aggregation.max_images=64",
    ]
    config = load_config(None, settings)
    with pytest.raises(ConfigError, match="suite"):
        Plan.make(config, roster=members.roster, bundle_hash="0" * 64)
    matching = load_config(None, [*settings, "secure_aggregation.suite=hybrid_pq"])
    plan = Plan.make(matching, roster=members.roster, bundle_hash="0" * 64)
    assert b'"suite":"hybrid_pq"' in plan.to_bytes()
    with pytest.raises(ConfigError, match="suite"):
        Plan.make(matching, roster=Federation(5).roster, bundle_hash="0" * 64)


def test_site_refuses_a_plan_that_names_another_suite(secure_parties, tmp_path: Path) -> None:
    """The whole path: the sites' terms are hybrid, the server's are not."""
    parties = secure_parties.Parties(tmp_path, "secure_aggregation.suite=hybrid_pq")
    parties.terms = dataclasses.replace(parties.terms, suite=CLASSICAL)
    with pytest.raises(ValueError, match="suite"):
        parties.sum(1)
