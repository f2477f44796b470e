"""Attack 1: make a client reveal both shares of one peer, or vouch for a set that it is not in."""

import pytest

from protocol.commitments import ShareKind
from protocol.errors import Misbehaviour
from protocol.messages import RevealedShare, SurvivorList, Unmask


def test_each_client_reveals_one_share_per_dealer_chosen_from_its_own_sets(hostile):
    server = hostile().join().deal().mask()
    alive = list(server.clients)[:4]
    server.sign(alive).unmask()
    for shares in server.revealed.values():
        kinds = {share.dealer: share.kind for share in shares}
        assert len(shares) == len(kinds) == 5
        for dealer, kind in kinds.items():
            assert kind is (ShareKind.SELF_MASK if dealer in alive else ShareKind.MASK_KEY)


def test_the_other_share_is_gone_from_the_session_when_the_set_is_signed(hostile):
    server = hostile().join().deal().mask()
    alive = list(server.clients)[:4]
    client = server.clients[alive[0]]
    before = {dealer: set(pair) for dealer, pair in client._state.held.items()}
    server.sign(alive)
    kept = {share.dealer: share.share for share in client._state.reveal}
    assert set(kept) == set(before)
    for dealer, share in kept.items():
        (twin,) = before[dealer] - {share}
        assert twin not in kept.values()
    assert not hasattr(client._state, "held")


def test_a_survivor_that_never_dealt_is_refused(hostile, aborts):
    # U3 must lie in U2: the fifth site never dealt shares, so nobody could remove its mask.
    server = hostile().join()
    dealers = list(server.clients)[:4]
    server.deal().mask(dealers, dealers=dealers)
    stranger = list(server.clients)[4]
    data = server.survivors([*dealers[:3], stranger], h2=server.h2(dealers))
    for id in dealers[:3]:
        aborts(server.clients[id], data, Misbehaviour.BAD_MEMBER_SET)


def test_a_client_that_is_told_that_it_dropped_out_itself_reveals_nothing(hostile, aborts):
    server = hostile().join().deal().mask()
    victim, *others = server.clients
    aborts(server.clients[victim], server.survivors(others), Misbehaviour.OWN_ENTRY_CHANGED)


@pytest.mark.parametrize("change", ["repeated", "unsorted"])
def test_a_set_that_lists_a_site_twice_is_refused(hostile, aborts, change):
    server = hostile().join().deal().mask()
    ids = tuple(server.clients)
    listed = (*ids[:4], ids[3]) if change == "repeated" else (ids[1], ids[0], *ids[2:])
    data = server.say(SurvivorList(h2=server.h2(), survivors=listed))
    aborts(server.clients[ids[0]], data, Misbehaviour.MALFORMED)


def test_a_message_with_both_shares_of_one_dealer_cannot_be_encoded():
    both = tuple(RevealedShare(dealer="site-000", kind=kind, share=bytes(33)) for kind in ShareKind)
    with pytest.raises(AssertionError, match="never leave together"):
        Unmask(h2=bytes(32), shares=both).encode()
