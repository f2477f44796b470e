"""Attack 24: masks that repeat or can be predicted from one round to the next.

MicroSecAgg fell to masks reused over rounds (arXiv:2410.09676). Here nothing is kept from a round.
"""

import dataclasses
import os

import pytest

from protocol import keys, labels
from protocol.entropy import insecure_counter_entropy


def mask_keys(server):
    """Every self-mask and pair-mask key of the round, by whom it belongs to."""
    members, h2, found = server.public_keys(), server.h2(server.federation.ids), {}
    for id in members:
        drawn = insecure_counter_entropy(server.federation.seed + b"/round/0/" + id.encode())
        a, b = drawn(32), drawn(32)
        pair = keys.KeyPair(keys.secret_scalar(a, context=server.context, label=labels.MASK_SECRET))
        self_secret = keys.secret_scalar(b, context=server.context, label=labels.SELF_SECRET)
        found[id,] = keys.self_key(self_secret, id=id, h2=h2)
        for v in members.keys() - {id}:
            found[tuple(sorted((id, v)))] = keys.pair_key(pair, own_id=id, peer=members[v], h2=h2)
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"round": 4},
        {"attempt": 1},
        {"model_hash": bytes(32)},
        {"previous": bytes(32)},
        {"privacy_hash": bytes(32)},
        {"federation_id": "clinics"},
        {"scale": 75.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_key_repeats_although_all_entropy_does(hostile, federation, change, monkeypatch):
    members = federation()
    first = hostile(members).join()
    spec = dataclasses.replace(members.spec, **change)
    other = federation()
    second = hostile(other, spec=spec, attempt=0)
    monkeypatch.setattr("protocol.policy.ClientPolicy.check", lambda *_, **__: None)
    monkeypatch.setattr("protocol.client_setup.hmac.compare_digest", lambda *_: True)
    second.join()
    one, two = mask_keys(first), mask_keys(second)
    assert one.keys() == two.keys()
    assert len(one) == 5 + 10
    assert not set(one.values()) & set(two.values())


def test_all_keys_of_one_round_differ(hostile):
    found = mask_keys(hostile().join())
    assert len(set(found.values())) == len(found)


def test_one_dealer_more_or_less_changes_every_key(hostile):
    # h2 binds U2: a mask is good for one set of dealers only.
    server = hostile().join()
    members = server.public_keys()
    pair = keys.KeyPair(bytes(range(32)))
    peer = members["site-001"]
    everyone, fewer = (server.h2(ids) for ids in (list(members), list(members)[:4]))
    assert keys.pair_key(pair, own_id="site-000", peer=peer, h2=everyone) != keys.pair_key(
        pair, own_id="site-000", peer=peer, h2=fewer
    )
    assert keys.self_key(bytes(32), id="site-000", h2=everyone) != keys.self_key(
        bytes(32), id="site-000", h2=fewer
    )


def test_two_rounds_without_injected_entropy_have_unrelated_uploads(federation, simulation):
    uploads = []
    for number in (3, 4):
        members = federation()
        spec = dataclasses.replace(members.spec, round=number)
        clients = {id: members.client(id, entropy=os.urandom) for id in members.ids}
        attempt = simulation.Round(members, spec=spec, clients=clients)
        for _ in range(3):
            attempt.step()
        uploads.append([out[-76:] for stage, _, _, out in attempt.log if stage == 2])
    assert not set(uploads[0]) & set(uploads[1])
