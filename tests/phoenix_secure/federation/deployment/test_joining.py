"""Joining: the folder that comes about is the one that ``deploy init`` would have made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ceremony import HOST, Ceremony, files_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.initialise import Deployment, initialise
from phoenix_secure.federation.deployment.joining import (
    Joining,
    pending_request,
    prepare_server,
    prepare_site,
)
from phoenix_secure.federation.deployment.probe import probe_server, probe_site
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder

SITES = ("clinic", "hospital")
OWN = {"ca.crt", "roster.bin", "federation-owner.pub", "server.crt", "door.crt", "approver.pub"}


def is_own(name: str) -> bool:
    """Whether two parties never have the same in it."""
    return Path(name).name in OWN or Path(name).suffix in (".key", ".secret", ".pub")


@pytest.mark.parametrize("suite", ["classical", "hybrid_pq"])
@pytest.mark.parametrize("via", [None, "/srv/exchange"])
def test_folders_are_those_of_deploy_init(tmp_path: Path, suite: str, via: str | None) -> None:
    ceremony = Ceremony(tmp_path, suite=suite, folder=None if via is None else Path(via))
    ceremony.make(SITES)
    initialise(
        tmp_path / "init",
        Deployment(federation="net", sites=SITES, host=HOST, suite=suite, folder=via),
    )
    for party, other in (
        ("server", "server"),
        ("clinic", "sites/clinic"),
        ("hospital", "sites/hospital"),
    ):
        made, expected = files_of(ceremony.place(party)), files_of(tmp_path / "init" / other)
        assert set(made) == set(expected)
        for name in made:
            if is_own(name):
                assert made[name] != expected[name], name
                assert abs(len(made[name]) - len(expected[name])) < 16, name
            else:
                assert made[name] == expected[name], name
        for path in ceremony.place(party).rglob("*"):
            twin = tmp_path / "init" / other / path.relative_to(ceremony.place(party))
            assert path.stat().st_mode == twin.stat().st_mode, path


def test_folders_load_and_belong_together(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.make(SITES)
    server = ServerFolder(ceremony.place("server"))
    roster = server.roster()
    assert server.identity(roster).public_key == roster.server_key
    assert set(server.nodes(roster)) == set(SITES)
    for name in SITES:
        site = SiteFolder(ceremony.place(name))
        settings = site.settings()
        assert (settings.site, settings.server) == (name, f"{HOST}:9443")
        assert site.roster() == roster
        assert site.identity(settings, roster).public_key == roster.key(name)
        site.approver_identity(site.approver_key)


def test_doctor_finds_no_fault_in_the_files(tmp_path: Path) -> None:
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    ceremony = Ceremony(tmp_path, folder=exchange)
    ceremony.make(SITES)
    found = probe_server(ServerFolder(ceremony.place("server")))
    found += probe_site(SiteFolder(ceremony.place("clinic")))
    assert [finding for finding in found if finding.level == "bad"] == []
    assert {finding.name for finding in found} >= {"key file", "roster", "folder"}


def test_joining_twice_or_out_of_turn_is_refused(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", *SITES)
    ceremony.owner.sign()
    welcome = ceremony.welcome_file("clinic")
    with pytest.raises(ConfigError, match=r"holds 0 join requests .* `phoenix-secure site init`"):
        Joining.open(tmp_path / "nowhere", welcome, as_server=False)
    with pytest.raises(ConfigError, match="use `phoenix-secure server join`"):
        Joining.open(ceremony.place("server"), welcome, as_server=False)
    with pytest.raises(ConfigError, match="use `phoenix-secure site join`"):
        Joining.open(ceremony.place("clinic"), welcome, as_server=True)
    ceremony.join("clinic", "server")
    for party in ("clinic", "server"):
        assert pending_request(ceremony.place(party)) is None
        with pytest.raises(ConfigError, match=r"has joined a federation .* in a new folder"):
            ceremony.open(party)


def test_crash_before_the_settings_can_be_made_good(tmp_path: Path, monkeypatch) -> None:
    from phoenix_secure.federation.deployment import party_folders

    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", *SITES)
    ceremony.owner.sign()
    with monkeypatch.context() as patched:
        patched.setattr(party_folders, "site_unit", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ceremony.join("clinic")
    assert not (ceremony.place("clinic") / "site.yaml").exists()
    assert pending_request(ceremony.place("clinic")) is not None
    ceremony.join("clinic")
    assert SiteFolder(ceremony.place("clinic")).settings().site == "clinic"


def test_superlink_port_is_the_servers_own_choice(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path)
    ceremony.prepare_and_admit("server", *SITES)
    ceremony.owner.sign()
    welcome = ceremony.welcome_file("server")
    with pytest.raises(ConfigError, match="ports must be different"):
        Joining.open(ceremony.place("server"), welcome, as_server=True, superlink_port=9443)
    joining = Joining.open(ceremony.place("server"), welcome, as_server=True, superlink_port=9999)
    joining.complete(heard=ceremony.owner.fingerprint.words)
    assert ServerFolder(ceremony.place("server")).settings().superlink_port == 9999


def test_federation_may_meet_on_the_port_that_is_usually_the_superlinks(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path, port=9093)
    ceremony.make(SITES)
    settings = ServerFolder(ceremony.place("server")).settings()
    assert (settings.port, settings.superlink_port) == (9093, 9094)
    assert SiteFolder(ceremony.place("clinic")).settings().server == f"{HOST}:9093"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: prepare_site(path, name="a/b", federation="f", suite="classical"), "name"),
        (lambda path: prepare_site(path, name="a", federation="", suite="classical"), "name"),
        (lambda path: prepare_site(path, name="server", federation="f", suite="classical"), "site"),
        (lambda path: prepare_site(path, name="a", federation="f", suite="rot13"), "--suite"),
        (
            lambda path: prepare_server(
                path, federation="f", host="a_b", port=9443, suite="classical"
            ),
            "--host .* underscore",
        ),
        (
            lambda path: prepare_server(path, federation="f", host="a", port=0, suite="classical"),
            "ports",
        ),
    ],
)
def test_names_that_cannot_be_make_no_folder(tmp_path: Path, make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_keys_are_never_written_over(tmp_path: Path) -> None:
    prepare_site(tmp_path / "clinic", name="clinic", federation="net", suite="classical")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match="not empty"):
        prepare_site(tmp_path / "clinic", name="clinic", federation="net", suite="classical")
    assert files_of(tmp_path) == before
