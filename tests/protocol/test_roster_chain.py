"""Chains of rosters: whole, true to what they state, and without a way back for old keys."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import labels, roster_chain
from protocol.encoding import encode
from protocol.entropy import insecure_counter_entropy
from protocol.errors import RemoteProtocolError
from protocol.identity import SERVER, Identity
from protocol.roster import Roster
from protocol.roster_chain import RosterChain, Succession
from protocol.roster_changes import ChangeKind, RosterChange


def identity(id):
    return Identity.generate(id, entropy=insecure_counter_entropy(id.encode()))


OWNER = identity("owner")
SITES = ("a", "b", "c")


def key(name):
    return identity(name).public_key


FIRST = Roster.create(
    federation_id="hospitals",
    owner_key=OWNER.public_key,
    server_key=key(SERVER),
    keys={id: key(id) for id in SITES},
)
BEGUN = RosterChain.of([FIRST.sign(OWNER)], owner_key=OWNER.public_key)


def load(data):
    return RosterChain.load(data, owner_key=OWNER.public_key)


def go_on(chain, *changes, server_key=None, **keys):
    """One more epoch; ``keys``: a site's key, None where it is left out."""
    held = dict(chain.current.members) | keys
    return chain.extended(
        OWNER,
        server_key=server_key or chain.current.server_key,
        keys={id: key for id, key in held.items() if key is not None},
        changes=[RosterChange(kind=kind, party=party) for party, kind in changes],
    )


K = ChangeKind
REVOKED = go_on(BEGUN, ("a", K.REVOKED), a=None)
SUSPENDED = go_on(BEGUN, ("a", K.SUSPENDED), a=None)


@dataclasses.dataclass
class Story:
    """The slow, obvious version: what the owner did, as lists."""

    chain: RosterChain = BEGUN
    active: dict = dataclasses.field(default_factory=lambda: dict(FIRST.members))
    suspended: dict = dataclasses.field(default_factory=dict)
    gone: list = dataclasses.field(default_factory=list)
    fresh: int = 0

    def new_key(self):
        self.fresh += 1
        return key(f"fresh-{self.fresh}")

    def step(self, verb, party):
        """Do it where it can be done."""
        before = self.active.get(party)
        if verb is K.ADDED and before is None and party not in self.suspended:
            self.active[party] = self.new_key()
        elif verb is K.ROTATED and (before or party in self.suspended):
            self.gone.append(before or self.suspended.pop(party))
            self.active[party] = self.new_key()
        elif verb is K.SUSPENDED and before and len(self.active) > 1:
            self.suspended[party] = self.active.pop(party)
        elif verb is K.RESUMED and party in self.suspended:
            self.active[party] = self.suspended.pop(party)
        elif verb is K.REVOKED and before and len(self.active) > 1:
            self.gone.append(self.active.pop(party))
        elif verb is K.REVOKED and party in self.suspended:
            self.gone.append(self.suspended.pop(party))
        else:
            return
        new = {id: self.active.get(id) for id in dict(self.chain.current.members) | self.active}
        self.chain = go_on(self.chain, (party, verb), **new)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(K), st.sampled_from(["a", "b", "c", "d"])), max_size=8))
def test_every_story_of_an_owner_loads_back_and_holds_who_is_in(steps):
    story = Story()
    for verb, party in steps:
        story.step(verb, party)
    found = load(story.chain.to_bytes())
    assert found == story.chain
    assert dict(found.current.members) == story.active
    assert dict(found.suspended) == story.suspended
    assert found.retired == set(story.gone)
    for old in story.gone:
        party = "z"
        with pytest.raises(RemoteProtocolError, match="was revoked or replaced"):
            go_on(found, (party, K.ADDED), **{party: old})
    # Whatever is left out, turned round or said twice is no chain.
    files = list(found.signed)
    for at in range(len(files)):
        for bad in (files[:at] + files[at + 1 :], files[:at] + files[at:][:1] + files[at:]):
            if bad in ([], files[: len(bad)]):
                continue  # a beginning is a chain
            with pytest.raises(RemoteProtocolError):
                RosterChain.of(bad, owner_key=OWNER.public_key)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_comparison_is_that_of_beginnings(ours, theirs, is_other_story):
    def made(length, name):
        chain = BEGUN
        for number in range(length):
            id = f"{name}{number}"
            chain = go_on(chain, (id, K.ADDED), **{id: key(id)})
        return chain

    one, other = made(ours, "x"), made(theirs, "y" if is_other_story else "x")
    hashes = [[roster.hash for roster in chain.rosters] for chain in (one, other)]
    if hashes[0] == hashes[1]:
        expected = Succession.SAME
    elif hashes[1][: len(hashes[0])] == hashes[0]:
        expected = Succession.NEWER
    elif hashes[0][: len(hashes[1])] == hashes[1]:
        expected = Succession.OLDER
    else:
        expected = Succession.FORKED
    assert one.compare(other) is expected


@pytest.mark.parametrize(
    ("chain", "changes", "keys"),
    [
        (BEGUN, [], {}),
        (BEGUN, [], {"a": None}),
        (BEGUN, [("a", K.ADDED)], {"a": None}),
        (BEGUN, [("a", K.RESUMED)], {"a": None}),
        (BEGUN, [("a", K.REVOKED)], {}),
        (BEGUN, [("b", K.REVOKED)], {"a": None}),
        (BEGUN, [("a", K.REVOKED)], {"a": None, "b": None}),
        (BEGUN, [("a", K.SUSPENDED)], {"a": key("new")}),
        (BEGUN, [("d", K.RESUMED)], {"d": key("d")}),
        (BEGUN, [("d", K.REVOKED)], {}),
        (BEGUN, [(SERVER, K.ROTATED)], {}),
        (SUSPENDED, [("a", K.ADDED)], {"a": key("a")}),
        (SUSPENDED, [("a", K.RESUMED)], {"a": key("new")}),
        (SUSPENDED, [("a", K.SUSPENDED)], {}),
        (REVOKED, [("a", K.RESUMED)], {"a": key("a")}),
        (REVOKED, [("a", K.ROTATED)], {"a": key("new")}),
        (REVOKED, [("a", K.REVOKED)], {}),
    ],
)
def test_stated_changes_are_the_true_ones(chain, changes, keys):
    with pytest.raises(RemoteProtocolError, match=r"does not state|changes nothing"):
        go_on(chain, *changes, **keys)


def test_a_change_of_the_servers_key_is_stated_too():
    with pytest.raises(RemoteProtocolError, match="does not state the change of server"):
        go_on(BEGUN, ("a", K.REVOKED), server_key=key("new"), a=None)
    rotated = go_on(BEGUN, (SERVER, K.ROTATED), server_key=key("new"))
    assert key(SERVER) in rotated.retired
    with pytest.raises(RemoteProtocolError, match="was revoked or replaced"):
        go_on(rotated, (SERVER, K.ROTATED), server_key=key(SERVER))


@pytest.mark.parametrize(
    ("chain", "change", "keys", "said"),
    [
        (REVOKED, ("a", K.ADDED), {"a": key("a")}, "the key of a was revoked"),
        (REVOKED, ("d", K.ADDED), {"d": key("a")}, "the key of d was revoked"),
        (SUSPENDED, ("d", K.ADDED), {"d": key("a")}, "the key of d is a suspended site's"),
    ],
)
def test_old_keys_do_not_come_back_under_any_name(chain, change, keys, said):
    with pytest.raises(RemoteProtocolError, match=said):
        go_on(chain, change, **keys)


def test_a_key_does_not_move_to_another_name_while_its_site_is_removed():
    for kind, said in ((K.REVOKED, "was revoked"), (K.SUSPENDED, "suspended site's")):
        with pytest.raises(RemoteProtocolError, match=said):
            go_on(BEGUN, ("a", kind), ("d", K.ADDED), a=None, d=key("a"))


def test_roster_that_does_not_follow_is_refused():
    def after(**changes):
        roster = dataclasses.replace(REVOKED.current, **changes)
        return [*BEGUN.signed, roster.sign(OWNER)]

    for files, said in (
        (after(previous=b"x" * 32), "does not follow from the epoch 1 here"),
        (after(epoch=3), "epoch 3 stands behind epoch 1"),
        (after(federation_id="clinics"), "of another federation or owner"),
        (REVOKED.signed[1:], "begins with epoch 2: epochs are missing"),
        ([*REVOKED.signed, FIRST.sign(OWNER)], "epoch 1 stands behind epoch 2"),
    ):
        with pytest.raises(RemoteProtocolError, match=said):
            RosterChain.of(files, owner_key=OWNER.public_key)


def test_a_roster_of_another_owner_in_the_chain_is_refused():
    stranger = identity("stranger")
    theirs = dataclasses.replace(REVOKED.current, owner_key=stranger.public_key)
    for file in (theirs.sign(stranger), REVOKED.current.sign(OWNER)[:-1] + b"\0"):
        with pytest.raises(RemoteProtocolError):
            RosterChain.of([*BEGUN.signed, file], owner_key=OWNER.public_key)
    with pytest.raises(RemoteProtocolError, match="invalid signature"):
        RosterChain.load(REVOKED.to_bytes(), owner_key=stranger.public_key)


def test_file_of_the_first_roster_is_that_of_older_versions():
    assert BEGUN.to_bytes() == FIRST.sign(OWNER)
    assert load(FIRST.sign(OWNER)) == BEGUN
    with pytest.raises(RemoteProtocolError, match="that roster alone"):
        load(encode([labels.ROSTER_CHAIN, FIRST.sign(OWNER)]))


def test_every_cut_of_the_file_and_every_flipped_byte_is_refused():
    data = REVOKED.to_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        for bad in (bytes(flipped), data[:place]):
            with pytest.raises(RemoteProtocolError):
                load(bad)
    with pytest.raises(RemoteProtocolError):
        load(data + encode([b""]))


def test_length_is_bounded(monkeypatch):
    monkeypatch.setattr(roster_chain, "MAX_EPOCHS", 2)
    assert load(REVOKED.to_bytes()) == REVOKED
    with pytest.raises(RemoteProtocolError, match="more than 2 epochs"):
        go_on(REVOKED, ("d", K.ADDED), d=key("d"))
    with pytest.raises(RemoteProtocolError, match="more than 2 epochs"):
        load(encode([labels.ROSTER_CHAIN, *([b"x"] * 3)]))
    size = len(REVOKED.to_bytes())
    monkeypatch.setattr(roster_chain, "MAX_CHAIN_SIZE", size - 1)
    with pytest.raises(RemoteProtocolError, match="too large"):
        load(encode([labels.ROSTER_CHAIN, *REVOKED.signed]))
    with pytest.raises(ValueError, match="at most"):
        REVOKED.to_bytes()


def test_rosters_are_found_by_their_hash():
    assert REVOKED.named(FIRST.hash) == REVOKED.first == FIRST
    assert REVOKED.named(bytes(32)) is None
    assert REVOKED.current.epoch == 2
