"""The owner's folder: founded, parties admitted by their words, a roster signed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from ceremony import HOST, Ceremony, files_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment import admissions
from phoenix_secure.federation.deployment.certificates import Authority, check_certificate
from phoenix_secure.federation.deployment.federation_settings import federation_settings
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.founding import OwnerFolder
from phoenix_secure.federation.deployment.party_keys import SiteKeys
from phoenix_secure.federation.deployment.welcome import read_welcome
from protocol.suite import Suite


def test_founding_makes_two_keys_and_no_partys(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    made = ceremony.owner.path
    assert {path.name for path in made.iterdir()} == {
        "admitted",
        "ca.crt",
        "ca.key",
        "federation-owner.pub",
        "federation.yaml",
        "owner.key",
        "welcomes",
    }
    assert made.stat().st_mode & 0o777 == 0o700
    for name in ("owner.key", "ca.key"):
        assert (made / name).stat().st_mode & 0o777 == 0o600
    settings = ceremony.owner.settings()
    assert (settings.federation, settings.host, settings.port) == ("net", HOST, 9443)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"federation": "a/b"}, "federation"),
        ({"federation": "n" * 47}, "federation"),
        ({"federation": "net", "host": "https://x"}, "host"),
        ({"federation": "net", "port": 0}, "port"),
        ({"federation": "net", "suite": "rot13"}, "suite"),
    ],
)
def test_what_no_federation_could_be_is_named(settings, named) -> None:
    with pytest.raises(ConfigError, match=named):
        federation_settings(**settings)


def test_folder_in_use_or_a_link_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = federation_settings(federation="net")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, said in (("used", "not empty"), ("file", "no folder"), ("link", "is a link")):
        with pytest.raises(ConfigError, match=said):
            OwnerFolder.found(tmp_path / name, settings)
    assert files_of(tmp_path) == {"file": b"x", "used/precious": b"x"}


def test_admitting_again_changes_nothing(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", "clinic")
    before = files_of(ceremony.owner.path)
    ceremony.admit("clinic")
    assert files_of(ceremony.owner.path) == before
    assert [request.party for request in ceremony.owner.admitted()] == ["clinic", "server"]


def test_federation_has_a_thousand_sites_at_most(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(admissions, "MAX_SITES", 1)
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", "clinic")
    hospital = ceremony.prepare("hospital")
    with pytest.raises(ConfigError, match="at most 1 sites"):
        ceremony.owner.admit(hospital, heard=hospital.fingerprint.words)


def test_server_and_a_site_are_needed(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("clinic")
    with pytest.raises(ConfigError, match="no server is admitted yet: admit its request"):
        ceremony.owner.sign()
    other = Ceremony(tmp_path / "other")
    other.prepare_and_admit("server")
    with pytest.raises(ConfigError, match="no site is admitted yet"):
        other.owner.sign()
    assert ceremony.owner.roster() is None
    assert not list(other.welcome_file("server").parent.iterdir())


def test_roster_is_over_the_admitted_and_signed_once(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", "clinic", "hospital")
    requests = {request.party: request for request in ceremony.owner.admitted()}
    made = ceremony.owner.sign(days=30)
    assert made.warning is not None
    assert "fewer than 5 sites" in made.warning
    assert dict(made.roster.members) == {
        name: requests[name].identity_key for name in ("clinic", "hospital")
    }
    assert made.roster.server_key == requests["server"].identity_key
    first = ceremony.owner.path.joinpath("roster.bin").read_bytes()
    before = read_welcome(ceremony.welcome_file("clinic"))
    again = ceremony.owner.sign(days=60)
    assert again.roster == made.roster
    assert ceremony.owner.path.joinpath("roster.bin").read_bytes() == first
    after = read_welcome(ceremony.welcome_file("clinic"))
    assert after.roster == before.roster
    renewed, old = (
        x509.load_pem_x509_certificate(found.certificate).not_valid_after_utc
        for found in (after, before)
    )
    assert renewed - old > dt.timedelta(days=29)


@pytest.mark.parametrize("days", [0, 3661])
def test_days_that_cannot_be_are_refused(tmp_path: Path, days: int) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", "clinic")
    with pytest.raises(ConfigError, match="--days must be between 1 and 3660"):
        ceremony.owner.sign(days=days)
    assert ceremony.owner.roster() is None


def test_keys_of_the_owner_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    ceremony, other = Ceremony(tmp_path / "1"), Ceremony(tmp_path / "2")
    for made in (ceremony, other):
        made.prepare_and_admit("server", "clinic")
    place = ceremony.owner.path
    for name, said in (
        ("ca.key", r"ca\.key is not the key of ca\.crt"),
        ("owner.key", r"is not the key of federation-owner\.pub"),
    ):
        kept = (place / name).read_bytes()
        (place / name).write_bytes((other.owner.path / name).read_bytes())
        with pytest.raises(ConfigError, match=said):
            ceremony.owner.sign()
        (place / name).write_bytes(kept)
    (place / "ca.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ceremony.owner.sign()
    (place / "ca.key").chmod(0o600)
    (place / "ca.key").write_bytes(
        b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"
    )
    with pytest.raises(ConfigError, match="cannot be read: restore both") as caught:
        ceremony.owner.sign()
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="deploy found"):
        OwnerFolder(tmp_path).settings()


def test_settings_that_were_edited_after_admissions_are_not_signed(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", "clinic")
    file = ceremony.owner.path / "federation.yaml"
    file.write_text(file.read_text().replace(HOST, "elsewhere.example.org"))
    with pytest.raises(ConfigError, match=r"federation\.yaml says elsewhere\.example\.org:9443"):
        ceremony.owner.sign()
    assert ceremony.owner.roster() is None


def test_owners_words_are_of_this_federation(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    seed = (ceremony.owner.path / "owner.key").read_bytes()
    elsewhere = Ceremony(tmp_path / "2", federation="other").owner
    (elsewhere.path / "owner.key").write_bytes(seed)
    public = (ceremony.owner.path / "federation-owner.pub").read_bytes()
    (elsewhere.path / "federation-owner.pub").write_bytes(public)
    assert elsewhere.fingerprint.words != ceremony.owner.fingerprint.words
    assert isinstance(ceremony.owner.fingerprint, Fingerprint)


def test_certificate_that_is_not_valid_now_names_the_clock() -> None:
    keys = SiteKeys.generate("clinic", suite=Suite.CLASSICAL)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    authority = Authority.make("net", days=30, now=now)
    public = keys.door.public_key()
    made = authority.certify_client(public, name="clinic", days=400, now=now)
    known = x509.load_pem_x509_certificate(made)
    assert known.not_valid_after_utc == authority.certificate.not_valid_after_utc
    check = {"authority": authority.pem, "public": public, "name": "clinic"}
    check_certificate(made, **check, now=now)
    for moment in (now - dt.timedelta(days=2), now + dt.timedelta(days=31)):
        with pytest.raises(ConfigError, match="set this machine's clock, or ask the owner"):
            check_certificate(made, **check, now=moment)
