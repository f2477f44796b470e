"""Rosters change: the owner admits, replaces, suspends, resumes, revokes; parties follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from ceremony import Ceremony, files_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment import renewing
from phoenix_secure.federation.deployment.probe import probe_site
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.welcome import read_welcome
from protocol import ChangeKind, RosterChange

SITES = ("clinic", "hospital", "practice")
PARTIES = ("server", *SITES)


@pytest.fixture
def net(tmp_path: Path) -> Ceremony:
    """Server and three sites that joined."""
    made = Ceremony(tmp_path)
    made.make(SITES)
    return made


def roster_of(net: Ceremony, party: str):
    return SiteFolder(net.place(party)).roster()


def said(net: Ceremony) -> list[str]:
    return [str(change) for change in net.owner.roster().changes]


def test_nothing_changes_before_it_is_signed_and_taken(net: Ceremony) -> None:
    first = net.owner.roster()
    net.decide(ChangeKind.REVOKED, "clinic", "key lost")
    assert net.owner.roster() == first
    assert [str(change) for change in net.owner.pending()] == ["clinic revoked (key lost)"]
    made = net.owner.sign()
    assert (made.is_new, made.roster.epoch, made.roster.previous) == (True, 2, first.hash)
    assert set(made.welcomes) == {"server", "hospital", "practice"}
    assert not net.welcome_file("clinic").exists()
    assert net.owner.pending() == ()
    assert roster_of(net, "hospital") == first
    net.renew("hospital")
    assert roster_of(net, "hospital") == made.roster
    assert ServerFolder(net.place("server")).roster() == first


def test_server_lets_in_the_nodes_of_the_roster_and_no_other(net: Ceremony, tmp_path: Path) -> None:
    net.decide(ChangeKind.REVOKED, "clinic")
    net.prepare_and_admit("late")
    net.owner.sign()
    net.renew("server")
    server = ServerFolder(net.place("server"))
    assert set(server.nodes(server.roster())) == {"hospital", "late", "practice"}
    assert {path.stem for path in (server.path / "nodes").iterdir()} == set(
        server.nodes(server.roster())
    )
    net.renew("hospital")
    hospital = SiteFolder(net.place("hospital"))
    found = {finding.name: finding for finding in probe_site(hospital, via=tmp_path)}
    assert "epoch 2" in found["roster"].message


def test_new_party_joins_with_the_whole_history_and_the_owners_words(net: Ceremony) -> None:
    net.decide(ChangeKind.SUSPENDED, "clinic", "moving house")
    net.owner.sign()
    net.prepare_and_admit("late")
    net.owner.sign()
    net.join("late")
    rosters = SiteFolder(net.place("late")).rosters()
    assert [roster.epoch for roster in rosters.rosters] == [1, 2, 3]
    net.renew("server", "hospital", "practice")
    assert SiteFolder(net.place("hospital")).rosters() == rosters
    lines = SiteFolder(net.place("hospital")).audit().lines()
    assert [(line["epoch"], line["why"]) for line in lines] == [
        (2, "clinic suspended (moving house)"),
        (3, "late added"),
    ]


def test_suspended_site_comes_back_with_its_key_and_a_revoked_one_never(net: Ceremony) -> None:
    key = roster_of(net, "clinic").key("clinic")
    net.decide(ChangeKind.SUSPENDED, "clinic")
    net.owner.sign()
    assert net.owner.roster().key("clinic") is None
    net.decide(ChangeKind.RESUMED, "clinic", "audited")
    net.owner.sign()
    assert said(net) == ["clinic resumed (audited)"]
    assert net.owner.roster().key("clinic") == key
    net.renew(*PARTIES)
    net.decide(ChangeKind.REVOKED, "clinic")
    net.owner.sign()
    with pytest.raises(ConfigError, match="clinic cannot be resumed: in the roster are hospital"):
        net.decide(ChangeKind.RESUMED, "clinic")
    request = net.place("clinic") / "clinic.request"
    assert not request.exists()
    net.replace("clinic")
    net.owner.sign()
    assert said(net) == ["clinic added"]
    net.join("clinic")
    assert roster_of(net, "clinic").key("clinic") not in (None, key)


def test_decision_that_is_not_signed_yet_can_be_taken_back(net: Ceremony) -> None:
    before = net.owner.roster()
    net.decide(ChangeKind.REVOKED, "clinic")
    net.decide(ChangeKind.RESUMED, "clinic")
    assert net.owner.pending() == ()
    assert net.owner.sign().roster == before


@pytest.mark.parametrize("party", ["clinic", "server"])
def test_party_with_new_keys_takes_the_place_of_the_old_one(net: Ceremony, party: str) -> None:
    before = net.owner.roster().key(party)
    net.replace(party)
    net.owner.sign()
    assert said(net) == [f"{party} rotated"]
    net.join(party)
    others = [other for other in PARTIES if other != party]
    net.renew(*others)
    for other in PARTIES:
        assert roster_of(net, other).key(party) not in (None, before)
    with pytest.raises(ConfigError, match="holds another key than this folder's"):
        renewing.Renewal.open(
            net.place(f"{party}-before"), net.welcome_file(party), as_server=party == "server"
        )


def test_certificates_are_renewed_with_the_roster_as_it_is(net: Ceremony, monkeypatch) -> None:
    before = files_of(net.place("clinic"))
    first = net.owner.roster()
    made = net.owner.sign(days=700)
    assert (made.is_new, made.roster) == (False, first)
    net.renew(*PARTIES)
    after = files_of(net.place("clinic"))
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"door.crt"}
    old, new = (x509.load_pem_x509_certificate(f["door.crt"]) for f in (before, after))
    assert new.not_valid_after_utc > old.not_valid_after_utc
    net.renew(*PARTIES)  # again
    assert files_of(net.place("clinic")) == after


def test_settings_and_secrets_of_a_party_stay_as_they_are(net: Ceremony) -> None:
    folder = net.place("clinic")
    (folder / "site.yaml").write_text((folder / "site.yaml").read_text() + "\n# mine\n")
    before = files_of(folder)
    net.decide(ChangeKind.REVOKED, "practice")
    net.owner.sign()
    net.renew("clinic")
    after = files_of(folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        "door.crt",
        "roster.bin",
        "audit.jsonl",
    }


@pytest.mark.parametrize(
    ("kind", "party", "said"),
    [
        (ChangeKind.REVOKED, "server", "always has a server: .* --replaces server"),
        (ChangeKind.SUSPENDED, "nobody", "nobody cannot be suspended: in the roster are clinic"),
        (ChangeKind.RESUMED, "clinic", "suspended are none"),
    ],
)
def test_decisions_that_cannot_be_name_who_is_there(net: Ceremony, kind, party, said) -> None:
    with pytest.raises(ConfigError, match=said):
        net.decide(kind, party)


def test_last_site_stays(tmp_path: Path) -> None:
    net = Ceremony(tmp_path)
    net.make(["clinic"])
    net.decide(ChangeKind.REVOKED, "clinic")
    with pytest.raises(ConfigError, match="no site would be left in the roster"):
        net.owner.sign()


def test_site_with_new_keys_is_not_revoked_in_the_same_roster(net: Ceremony) -> None:
    net.replace("clinic")
    net.decide(ChangeKind.REVOKED, "clinic")
    with pytest.raises(ConfigError, match="clinic has new keys, and is to be revoked"):
        net.owner.sign()


def test_decisions_before_a_roster_are_refused(tmp_path: Path) -> None:
    net = Ceremony(tmp_path)
    net.prepare_and_admit("server", "clinic")
    with pytest.raises(ConfigError, match="no roster is signed yet"):
        net.decide(ChangeKind.REVOKED, "clinic")
    hospital = net.prepare("hospital")
    with pytest.raises(ConfigError, match="--replaces hospital: no party of that name"):
        net.owner.admit(hospital, heard=hospital.fingerprint.words, replaces=True)


def test_crash_between_roster_and_welcomes_is_made_good(net: Ceremony, monkeypatch) -> None:
    from phoenix_secure.federation.deployment import founding

    net.decide(ChangeKind.REVOKED, "clinic")
    with monkeypatch.context() as patched:
        patched.setattr(founding, "_certificate", lambda *args, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            net.owner.sign()
    signed = net.owner.roster()
    assert net.owner.sign().roster == signed
    assert signed.epoch == 2
    assert read_welcome(net.welcome_file("hospital")).rosters().current == signed


def test_reason_is_kept_in_the_roster_and_no_longer_than_it_may_be(net: Ceremony) -> None:
    net.decide(ChangeKind.REVOKED, "clinic", "ä" * 200)
    assert net.owner.sign().roster.changes[0].reason == "ä" * 200
    with pytest.raises(ValueError, match="at most 200"):
        RosterChange(kind=ChangeKind.REVOKED, party="clinic", reason="ä" * 201)
