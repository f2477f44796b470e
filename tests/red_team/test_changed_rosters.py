"""Somebody shows parties an older roster, another one, or part of the history: nobody follows.

An attacker carries the files, runs the server, is a site with true keys, or has copies of whatever
the owner once signed.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from ceremony import Ceremony, owner_of, refusal
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.held_rosters import take_rosters
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.welcome import read_welcome
from protocol import ChangeKind, Identity, RosterChain, labels
from protocol.encoding import encode

PARTIES = ("server", "clinic", "hospital", "practice")


@pytest.fixture
def net(tmp_path: Path) -> Ceremony:
    """A federation in its second epoch; ``old`` holds the welcomes of the first."""
    made = Ceremony(tmp_path / "net")
    made.make(PARTIES[1:])
    shutil.copytree(made.owner.path, tmp_path / "old-owner")
    made.decide(ChangeKind.REVOKED, "practice", "key stolen")
    made.owner.sign()
    made.renew("server", "clinic", "hospital")
    return made


def refused(net: Ceremony, party: str, welcome: Path, said: str) -> None:
    with refusal(net.place(party), said):
        net.open_renewal(party, welcome).complete()


def forged(net: Ceremony, party: str, owner: Identity | None = None, **changes: object) -> Path:
    """The newest welcome of ``party`` with ``changes``, signed by the owner unless it says."""
    path = net.root / "forged.welcome"
    true = read_welcome(net.welcome_file(party))
    path.write_bytes(dataclasses.replace(true, **changes).sign(owner or owner_of(net)))
    return path


def elsewhere(net: Ceremony, tmp_path: Path) -> Ceremony:
    """The owner's folder as it was in epoch 1: restored from a copy, or in a thief's hands."""
    other = Ceremony(tmp_path / "other")
    shutil.rmtree(other.owner.path)
    shutil.copytree(tmp_path / "old-owner", other.owner.path)
    return other


def test_true_welcome_is_taken(net: Ceremony) -> None:
    """So that the refusals below are of the lie."""
    net.open_renewal("clinic", forged(net, "clinic")).complete()


@pytest.mark.parametrize("party", ["server", "clinic"])
def test_replayed_welcome_of_an_older_epoch_is_a_rollback(
    net: Ceremony, tmp_path: Path, party: str
) -> None:
    old = tmp_path / "old-owner" / "welcomes" / f"{party}.welcome"
    refused(net, party, old, "rollback: these rosters end with epoch 1, and epoch 2 is in force")


def test_replayed_welcome_of_the_same_epoch_brings_no_old_certificate_back(
    net: Ceremony, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datetime as dt

    from phoenix_secure.federation.deployment import certificates

    old = shutil.copy(net.welcome_file("clinic"), tmp_path / "old.welcome")
    monkeypatch.setattr(certificates, "_BACKDATED", dt.timedelta(minutes=59))
    net.owner.sign()
    net.renew("clinic")
    refused(net, "clinic", Path(old), "the welcome is older than the certificate in")


@pytest.mark.parametrize("party", ["server", "clinic"])
def test_fork_is_named_whoever_signed_it(net: Ceremony, tmp_path: Path, party: str) -> None:
    """One half of the sites is shown one second epoch, the other half another."""
    other = elsewhere(net, tmp_path)
    other.decide(ChangeKind.REVOKED, "hospital")
    other.owner.sign()
    refused(net, party, other.welcome_file(party), "fork: this is another roster of epoch 2")
    other.decide(ChangeKind.REVOKED, "practice")
    other.owner.sign()  # a longer chain wins nothing
    refused(net, party, other.welcome_file(party), "fork: this is another roster of epoch 2")


def test_revoked_site_gets_nobody_to_take_it_back(net: Ceremony, tmp_path: Path) -> None:
    """It has true keys, an old welcome, and signs whatever it likes with them."""
    own = Identity("owner", seed=(net.place("practice") / "identity.key").read_bytes())
    chain, newest = net.owner.rosters(), net.owner.roster()
    keys = dict(newest.members) | {"practice": own.public_key}
    back = dataclasses.replace(
        newest,
        members=tuple(sorted(keys.items())),
        epoch=3,
        previous=newest.hash,
        changes=(dataclasses.replace(newest.changes[0], kind=ChangeKind.ADDED),),
    )
    # Signed by itself: not the owner's.
    body = back.sign(owner_of(net))
    foreign = dataclasses.replace(back, owner_key=own.public_key).sign(own)
    for last, said in ((foreign, "invalid signature|not signed"), (body, "was revoked or repl")):
        data = encode([labels.ROSTER_CHAIN, *chain.signed, last])
        refused(net, "clinic", forged(net, "clinic", roster=data), said)
        with pytest.raises(ConfigError, match="not those of the pinned owner"):
            take_rosters(net.place("clinic"), data)


def test_suspended_site_cannot_resume_itself(net: Ceremony) -> None:
    net.decide(ChangeKind.SUSPENDED, "hospital")
    net.owner.sign()
    net.renew("server", "clinic")
    # Its own folder is as it was: it believes that it is in, and shows its epoch to others.
    own = SiteFolder(net.place("hospital")).rosters()
    with pytest.raises(ConfigError, match="rollback"):
        take_rosters(net.place("clinic"), own.to_bytes())
    # A decision of its own in the owner's folder is none; the owner's of an older epoch neither.
    decided = net.owner.path / "decided"
    (decided / "hospital.decision").write_bytes(b"resumed")
    with pytest.raises(ConfigError, match="no decision that this owner signed"):
        net.owner.pending()
    shutil.copy(decided / "practice.decision", decided / "hospital.decision")
    with pytest.raises(ConfigError, match="no decision that this owner signed"):
        net.owner.pending()


def test_decision_of_an_earlier_epoch_that_comes_back_changes_nothing(net: Ceremony) -> None:
    decided = net.owner.path / "decided" / "hospital.decision"
    net.decide(ChangeKind.SUSPENDED, "hospital")
    kept = decided.read_bytes()
    net.owner.sign()
    net.decide(ChangeKind.RESUMED, "hospital")
    net.owner.sign()
    decided.write_bytes(kept)
    assert net.owner.pending() == ()
    assert not net.owner.sign().is_new


def test_old_admission_that_comes_back_brings_no_old_key_back(net: Ceremony) -> None:
    admission = net.owner.path / "admitted" / "clinic.admission"
    kept = admission.read_bytes()
    net.replace("clinic")
    net.owner.sign()
    admission.write_bytes(kept)
    with pytest.raises(ConfigError, match="the request with the keys of clinic is not in the fol"):
        net.owner.sign()


def test_welcome_of_another_owner_is_refused_by_name(net: Ceremony, tmp_path: Path) -> None:
    """A swapped owner key: the words are not asked for a second time, so it must not pass."""
    mallory = Ceremony(tmp_path / "mallory")
    mallory.make(PARTIES[1:])
    for party in ("server", "clinic"):
        refused(net, party, mallory.welcome_file(party), "is signed by another owner than the one")
    with pytest.raises(ConfigError, match="not those of the pinned owner"):
        take_rosters(net.place("clinic"), mallory.owner.rosters().to_bytes())
    # The owner's own signature under the stranger's rosters, and the other way round.
    theirs = mallory.owner.rosters().to_bytes()
    refused(net, "clinic", forged(net, "clinic", roster=theirs), "not signed by the owner's key")
    stranger = owner_of(mallory)
    swapped = forged(net, "clinic", stranger)
    refused(net, "clinic", swapped, "owner's key in it did not sign it")


def test_truncated_and_oversized_chains_are_refused(net: Ceremony) -> None:
    chain = net.owner.rosters()
    assert isinstance(chain, RosterChain)
    first, second = chain.signed
    for data, said in (
        (encode([labels.ROSTER_CHAIN, second]), "that roster alone"),
        (second, "begins with epoch 2: epochs are missing"),
        (encode([labels.ROSTER_CHAIN, second, first]), "begins with epoch 2"),
        (encode([labels.ROSTER_CHAIN, first, first]), "epoch 1 stands behind epoch 1"),
        (chain.to_bytes()[:-1], "truncated"),
        (encode([labels.ROSTER_CHAIN, *([first] * 1025)]), "more than 1024 epochs"),
        (chain.to_bytes() + bytes(12 << 20), "too large"),
        (b"", "truncated"),
    ):
        with pytest.raises(ConfigError, match=said):
            take_rosters(net.place("clinic"), data)
    refused(net, "clinic", forged(net, "clinic", roster=second), "epochs are missing")


def test_welcome_without_the_own_key_node_or_name_is_refused(net: Ceremony) -> None:
    hospital = read_welcome(net.welcome_file("hospital"))
    refused(net, "clinic", net.welcome_file("hospital"), r"ask the owner for clinic\.welcome")
    swapped = forged(net, "clinic", nodes={"clinic": hospital.nodes["hospital"]})
    refused(net, "clinic", swapped, "node keys in the welcome")
    swapped = forged(net, "clinic", certificate=hospital.certificate)
    refused(net, "clinic", swapped, "for another key than the one in this folder")
    server = read_welcome(net.welcome_file("server"))
    swapped = forged(net, "server", nodes={"clinic": server.nodes["clinic"]})
    refused(net, "server", swapped, "node keys in the welcome")
    refused(net, "server", forged(net, "server", host="evil.example"), "reach this server at|name")


def test_revoked_site_finds_itself_left_out(net: Ceremony) -> None:
    """Its own true welcome does not exist; one that somebody forges names no key for it."""
    assert not net.welcome_file("practice").exists()
    path = net.root / "forged.welcome"
    true = read_welcome(net.welcome_file("clinic"))
    path.write_bytes(dataclasses.replace(true, party="practice").sign(owner_of(net)))
    refused(net, "practice", path, "practice is not in the roster of epoch 2")
