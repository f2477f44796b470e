"""``deploy init``: who gets which secret, with which permissions, and what is refused."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder, find_server_folder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.secret_files import read_secret, write_secret
from protocol import Identity, Roster
from tls_files import make_tls_files

SITES = ("clinic", "hospital-a", "hospital-b")
SECRETS = {
    "approver.key",
    "door.key",
    "identity.key",
    "node.key",
    "owner.key",
    "server.key",
    "task.secret",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("deploy") / "federation"
    initialise(
        root, Deployment(federation="net", sites=SITES, host="fl.example.org", port=7443, days=30)
    )
    return root


def secret_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name in SECRETS]


def test_every_secret_is_private_and_held_once(folder: Path) -> None:
    found = secret_files(folder)
    # owner, server key, server identity, server task secret; five for each site
    assert len(found) == 4 + 5 * len(SITES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    contents = [path.read_bytes() for path in found]
    assert len(set(contents)) == len(contents)
    everything = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path, content in zip(found, contents, strict=True):
        holders = [other for other, text in everything.items() if content.strip() in text]
        assert holders == [path]


def test_nobody_keeps_the_key_of_the_authority(folder: Path) -> None:
    authority = x509.load_pem_x509_certificate((folder / "server" / "ca.crt").read_bytes())
    kept = [
        load_pem_private_key(path.read_bytes(), password=None).public_key()
        for path in folder.rglob("*.key")
        if b"BEGIN PRIVATE KEY" in path.read_bytes()
    ]
    assert len(kept) == 1 + len(SITES)
    assert authority.public_key() not in kept


def test_no_site_folder_holds_anything_secret_of_another_party(folder: Path) -> None:
    for one, other in itertools.permutations([*SITES, "../server", "../owner"], 2):
        mine = {path.read_bytes() for path in secret_files(folder / "sites" / one)}
        theirs = (folder / "sites" / other).rglob("*")
        assert not mine & {path.read_bytes() for path in theirs if path.is_file()}


def test_folders_load_and_belong_together(folder: Path) -> None:
    server = ServerFolder(folder / "server")
    roster = server.roster()
    assert [site for site, _ in roster.members] == sorted(SITES)
    assert server.identity(roster).public_key == roster.server_key
    assert set(server.nodes(roster)) == set(SITES)
    assert server.settings().address == "fl.example.org:7443"
    for name in SITES:
        site = SiteFolder(folder / "sites" / name)
        settings = site.settings()
        assert (settings.site, settings.server) == (name, "fl.example.org:7443")
        assert site.roster() == roster
        assert site.identity(settings, roster).public_key == roster.key(name)
        assert (
            site.approver_identity(site.approver_key).public_key
            not in dict(roster.members).values()
        )


def test_policy_of_a_new_site_is_strict(folder: Path) -> None:
    policy = SiteFolder(folder / "sites" / "clinic").settings().policy
    assert policy.require_secure_aggregation
    assert policy.require_computed_model
    assert policy.min_sites == len(SITES)


@pytest.mark.long
@pytest.mark.parametrize("num_sites", [128, 129])
def test_policy_of_a_new_site_names_the_weaker_graph_where_it_may_be_asked_for(
    tmp_path: Path, num_sites: int
) -> None:
    names = numbered_sites(num_sites)
    initialise(tmp_path / "many", Deployment(federation="f", sites=tuple(names)))
    written = yaml.safe_load((tmp_path / "many" / "sites" / names[0] / "site.yaml").read_text())
    assert ("allow_regular_graph" in written["policy"]) == (num_sites == 129)
    policy = SiteFolder(tmp_path / "many" / "sites" / names[0]).settings().policy
    assert not policy.allow_regular_graph


def test_key_of_another_site_is_refused(folder: Path, tmp_path: Path) -> None:
    clinic = SiteFolder(folder / "sites" / "clinic")
    wrong = clinic.settings().model_copy(update={"site": "hospital-a"})
    with pytest.raises(ConfigError, match="not the key of hospital-a"):
        clinic.identity(wrong, clinic.roster())
    stranger = tmp_path / "approver.key"
    write_secret(stranger, Identity.generate("x").export_seed())
    with pytest.raises(ConfigError, match="is not the key in"):
        clinic.approver_identity(stranger)


def test_roster_signed_by_another_owner_is_refused(folder: Path, tmp_path: Path) -> None:
    roster = SiteFolder(folder / "sites" / "clinic").roster()
    owner = Identity.generate("owner")
    forged = Roster.create(
        federation_id="net",
        owner_key=owner.public_key,
        server_key=roster.server_key,
        keys=dict(roster.members),
    )
    (tmp_path / "roster.bin").write_bytes(forged.sign(owner))
    (tmp_path / "federation-owner.pub").write_bytes(roster.owner_key)
    with pytest.raises(ConfigError, match="not signed by the pinned owner"):
        SiteFolder(tmp_path).roster()


def test_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        initialise(tmp_path, Deployment(federation="f", sites=("a",)))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_nothing_is_left_when_it_fails_halfway(tmp_path: Path, monkeypatch) -> None:
    from phoenix_secure.federation.deployment import initialise as module

    monkeypatch.setattr(module, "compose_file", lambda sites: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        initialise(tmp_path / "new", Deployment(federation="f", sites=("a",)))
    assert not (tmp_path / "new").exists()


def test_only_a_rehearsal_gets_a_script_that_signs_for_every_owner(tmp_path) -> None:
    sites = tuple("abcde")
    initialise(tmp_path / "real", Deployment(federation="f", sites=sites))
    initialise(tmp_path / "trial", Deployment(federation="f", sites=sites, rehearsal=True))
    assert not (tmp_path / "real" / "approve.sh").exists()
    script = tmp_path / "trial" / "approve.sh"
    assert "site approve" in script.read_text()
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the whole hash of the plan" in done.stderr


def test_fewer_than_five_sites_are_warned_about() -> None:
    assert Deployment(federation="f", sites=tuple("abcde")).warning is None
    warning = Deployment(federation="f", sites=tuple("abcd")).warning
    assert warning is not None
    assert "fewer than 5 sites" in warning


@pytest.mark.parametrize(
    "fields",
    [
        {"federation": "a/b"},
        {"federation": ""},
        {"sites": ()},
        {"sites": ("a", "a")},
        {"sites": ("server",)},
        {"sites": ("../a",)},
        {"port": 0},
        {"port": 9093},
        {"days": 0},
        {"first_supernode_port": 65_535, "sites": ("a", "b")},
    ],
)
def test_settings_that_cannot_work_are_refused(fields) -> None:
    with pytest.raises(ConfigError):
        Deployment(**({"federation": "f", "sites": ("a",)} | fields))


def test_authority_signed_the_server_and_can_sign_nothing_more() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    tls = make_tls_files(federation="f", hosts=["fl.example.org", "10.1.2.3"], days=30, now=now)
    ca = x509.load_pem_x509_certificate(tls.ca_certificate)
    server = x509.load_pem_x509_certificate(tls.server_certificate)
    server.verify_directly_issued_by(ca)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    leaf = server.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert leaf.ca is False
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fl.example.org" in names.get_values_for_type(x509.DNSName)
    assert server.not_valid_after_utc - now < dt.timedelta(days=30)
    assert isinstance(server.public_key(), ec.EllipticCurvePublicKey)
    assert b"PRIVATE" not in repr(tls).encode()


def test_clients_get_certificates_that_open_connections_and_nothing_else() -> None:
    tls = make_tls_files(federation="f", hosts=["127.0.0.1"], days=30, clients=SITES)
    ca = x509.load_pem_x509_certificate(tls.ca_certificate)
    assert set(tls.clients) == set(SITES)
    for site, own in tls.clients.items():
        found = x509.load_pem_x509_certificate(own.certificate)
        found.verify_directly_issued_by(ca)
        assert found.subject.rfc4514_string() == f"CN={site}"
        purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert b"PRIVATE" not in repr(tls).encode()


def test_new_federations_ask_for_client_certificates_and_old_ones_do_not(
    folder: Path, tmp_path: Path
) -> None:
    server = ServerFolder(folder / "server")
    assert server.settings().client_certificates
    clinic = SiteFolder(folder / "sites" / "clinic")
    assert clinic.door_key in clinic.secrets
    content = yaml.safe_load(server.settings_file.read_text())
    del content["client_certificates"]
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(content))
    assert not ServerFolder(tmp_path).settings().client_certificates
    old = SiteFolder(tmp_path)
    assert old.door_key not in old.secrets


@pytest.mark.parametrize("unit", ["server", "sites/clinic"])
def test_units_bound_memory_and_give_away_no_right_that_is_not_needed(
    folder: Path, unit: str
) -> None:
    (path,) = (folder / unit).glob("*.service")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    assert settings["MemoryMax"] == "80%"
    assert settings["LimitCORE"] == "0"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["CapabilityBoundingSet"] == ""
    assert {"SystemCallFilter=@system-service", "SystemCallFilter=~@privileged"} <= set(lines)
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(path)],
            capture_output=True,
            text=True,
        )
        level = re.search(r"exposure level for .*: ([0-9.]+)", checked.stdout)
        assert level is None or float(level[1]) < 2  # what 0.1.0 wrote had 7.6


def test_key_files_open_to_others_links_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    key = tmp_path / "k"
    write_secret(key, bytes(32))
    assert read_secret(key, size=32) == bytes(32)
    with pytest.raises(ConfigError, match="must hold 64 bytes"):
        read_secret(key, size=64)
    (tmp_path / "link").symlink_to(key)
    with pytest.raises(ConfigError, match="plain file"):
        read_secret(tmp_path / "link")
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(key)
    with pytest.raises(ConfigError, match="missing"):
        read_secret(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"server": "no-port"}, "server"),
        ({"server": None}, "server or folder"),
        ({"folder": "/x"}, "server or folder"),
        ({"supernode_port": 0}, "supernode_port"),
        ({"unknown": 1}, "unknown"),
        ({"data": {"source": "own"}}, "path"),
        ({"policy": {"min_sites": 0}}, "policy.min_sites"),
    ],
)
def test_wrong_site_settings_are_named(folder: Path, tmp_path: Path, change, named) -> None:
    content = yaml.safe_load((folder / "sites" / "clinic" / "site.yaml").read_text())
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(ConfigError, match=named) as caught:
        SiteFolder(tmp_path).settings()
    assert "\n" not in str(caught.value)


def test_server_is_found_by_name_or_path(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    for name in ("federation", "federation/server", str(folder)):
        assert find_server_folder(name).settings().federation == "net"
    with pytest.raises(ConfigError, match="deploy init"):
        find_server_folder("nowhere")


def test_texts_name_every_site_and_the_fingerprint(folder: Path) -> None:
    steps = (folder / "federation.md").read_text()
    assert ServerFolder(folder / "server").roster().fingerprint in steps
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert set(services) == {"server", *SITES}
    assert not any("ports" in service for service in services.values())
    unit = (folder / "sites" / "clinic" / "phoenix-secure-site.service").read_text()
    assert "FLWR_TELEMETRY_ENABLED=0" in unit
    assert numbered_sites(5)[0] == "site-01"
