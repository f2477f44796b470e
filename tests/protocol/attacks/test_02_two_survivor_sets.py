"""Attack 2: two different survivor sets to two halves of the cohort, to get two sums."""

from itertools import combinations

import pytest

from protocol.errors import Misbehaviour, SessionAborted
from protocol.messages import Envelope


def test_neither_half_reaches_the_quorum(hostile, aborts):
    server = hostile().join().deal().mask()
    ids = list(server.clients)
    sets = [ids, ids[:4]]
    halves = [ids[2:], ids[:2]]
    for survivors, half in zip(sets, halves, strict=True):
        server.sign(survivors, ids=half)
    for half in halves:
        for id in half:
            aborts(server.clients[id], server.quorum(half), Misbehaviour.BELOW_QUORUM)


def test_signatures_over_the_other_set_do_not_count(hostile, aborts):
    server = hostile().join().deal().mask()
    ids = list(server.clients)
    server.sign(ids[:4], ids=ids[:2]).sign(ids, ids=ids[2:])
    for id in ids[2:]:
        aborts(server.clients[id], server.quorum(ids), Misbehaviour.BAD_SIGNATURE)


def test_a_second_set_is_never_signed(hostile):
    server = hostile().join().deal().mask()
    ids = list(server.clients)
    server.sign(ids)
    with pytest.raises(SessionAborted, match="two different messages"):
        server.clients[ids[0]].receive(server.survivors(ids[:4]))
    with pytest.raises(SessionAborted):
        server.clients[ids[0]].receive(server.quorum())


@pytest.mark.parametrize("num_sites", range(5, 12))
def test_two_quorums_always_share_an_honest_site(federation, num_sites):
    spec = federation(num_sites, collusion=0.1).spec
    for first, second in combinations(combinations(range(num_sites), spec.quorum), 2):
        assert len(set(first) & set(second)) > spec.num_colluders


def test_sums_over_another_set_of_dealers_get_no_signatures(hostile, aborts):
    # Half of the cohort is told that one site did not deal: h2 differs, so do masks and messages.
    server = hostile().join().deal()
    ids = list(server.clients)
    server.mask(ids[2:]).mask(ids[:2], dealers=ids[:4])
    h2 = server.h2()
    for id in ids[:2]:
        aborts(server.clients[id], server.survivors(ids[:4], h2=h2), Misbehaviour.FOREIGN_CONTEXT)
    signed = [server.clients[id].receive(server.survivors(ids, h2=h2)).outbound for id in ids[2:]]
    for id, data in zip(ids[2:], signed, strict=True):
        server.signatures[id] = Envelope.parse(data, peer=id, max_size=len(data)).signature
    aborts(server.clients[ids[2]], server.quorum(), Misbehaviour.BELOW_QUORUM)
