"""deploy, site and doctor --federation from the command line, without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.run.plan import Plan

SETTINGS = ["data.name=digits", "data.image_size=8", "data.channels=1", "partition.num_sites=5"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("commands")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    made = phoenix("deploy", "init", "trial", "--sites", 5, "--port", port, "--rehearsal", cwd=root)
    assert made.code == 0, made.err
    assert "roster fingerprint" in made.out
    return root


@pytest.fixture(scope="module")
def plan(place: Path) -> Plan:
    roster = ServerFolder(place / "trial" / "server").roster()
    made = Plan.make(
        load_config(None, SETTINGS), roster=roster, bundle_hash=bundle_hash(make_bundle())
    )
    site = SiteFolder(place / "trial" / "sites" / "site-01")
    site.make_folders()
    (site.plans / f"{made.hash}.json").write_bytes(made.to_bytes())
    return made


def test_init_twice_in_one_folder_is_refused(place: Path) -> None:
    again = phoenix("deploy", "init", "trial", "--sites", 5, cwd=place)
    assert again.code == 2
    assert "not empty" in again.err


@pytest.mark.parametrize("arguments", [[], ["--sites", "5", "--site", "a"], ["--site", "a/b"]])
def test_init_needs_sites_in_one_way(place: Path, arguments) -> None:
    made = phoenix("deploy", "init", "other", *arguments, cwd=place)
    assert made.code == 2
    assert len(made.err.strip().splitlines()) == 1
    assert not (place / "other").exists()


def test_show_prints_the_fingerprint_to_compare(place: Path) -> None:
    shown = phoenix("site", "show", "trial/sites/site-01", "--format", "json", cwd=place)
    facts = json.loads(shown.out)
    assert facts["fingerprint"] == ServerFolder(place / "trial" / "server").roster().fingerprint
    assert facts["policy"]["require_secure_aggregation"] is True


def test_owner_reads_and_signs_a_plan(place: Path, plan: Plan) -> None:
    folder = "trial/sites/site-01"
    before = json.loads(phoenix("site", "plans", folder, "--format", "json", cwd=place).out)
    assert (before[0]["plan"], before[0]["decision"]) == (plan.hash, "no approval")
    signed = phoenix("site", "approve", folder, plan.hash[:16], cwd=place, typed="y\n")
    assert signed.code == 0, signed.err
    after = json.loads(phoenix("site", "plans", folder, "--format", "json", cwd=place).out)
    assert after[0]["decision"] == "approved by the owner"


def test_approving_what_was_not_offered_is_refused(place: Path, plan: Plan) -> None:
    for beginning, named in (("f" * 16, "offered plans"), ("", "at least 16 hexadecimal")):
        asked = phoenix("site", "approve", "trial/sites/site-01", beginning, cwd=place)
        assert asked.code == 2
        assert named in asked.err


def test_approving_with_another_key_is_refused(place: Path, plan: Plan) -> None:
    key = place / "trial" / "sites" / "site-02" / "approver.key"
    asked = phoenix(
        "site", "approve", "trial/sites/site-01", plan.hash[:16], "--key", key, cwd=place
    )
    assert asked.code == 2
    assert "is not the key" in asked.err


def test_log_of_a_tampered_site_names_the_line(place: Path) -> None:
    site = SiteFolder(place / "trial" / "sites" / "site-03")
    audit = site.audit()
    audit.record("started")
    audit.record("refused", why="no approval")
    shown = phoenix("site", "log", site.path, cwd=place)
    assert "2 lines, unbroken" in shown.out
    site.audit_file.write_text(site.audit_file.read_text().replace("refused", "allowed"))
    site.audit().record("stopped")
    text = site.audit_file.read_text().splitlines()
    site.audit_file.write_text("\n".join([text[0].replace("started", "x"), *text[1:]]) + "\n")
    broken = phoenix("site", "log", site.path, cwd=place)
    assert broken.code == 11
    assert "changed at line 2" in broken.err


def test_log_names_the_culprit_in_full(place: Path) -> None:
    site = SiteFolder(place / "trial" / "sites" / "site-04")
    why = "site-02: false complaint about a dealer (round 7; proven by its own signed messages)"
    site.audit().record("excluded", plan="0" * 64, site="site-02", why=why, proof="1" * 64)
    assert why in phoenix("site", "log", site.path, cwd=place).out


def test_doctor_says_that_nobody_answers(place: Path) -> None:
    for folder in ("trial", "trial/sites/site-02"):
        found = phoenix("doctor", "--federation", folder, "--format", "json", cwd=place)
        assert found.code == 1
        bad = [line for line in json.loads(found.out) if line["level"] == "bad"]
        assert [line["name"] for line in bad] == ["door"]
        assert "start the server" in bad[0]["message"]


def test_unknown_federation_is_named(place: Path) -> None:
    for command in (["doctor"], ["run", "x.yaml"], ["resume", "x"]):
        asked = phoenix(*command, "--federation", "nowhere", cwd=place)
        assert asked.code in {2, 11}
        assert len(asked.err.strip().splitlines()) == 1


def test_dry_run_shows_the_plan_and_asks_nobody(place: Path) -> None:
    (place / "tiny.yaml").write_text("data: {name: digits, image_size: 8, channels: 1}\n")
    small = ["model.block_channels=[8]", "model.attention=[false]"]
    asked = phoenix(
        *("run", "tiny.yaml", *small, "secure_aggregation.max_images=64"),
        *("--federation", "trial", "--dry-run", "--format", "json"),
        cwd=place,
    )
    assert asked.code == 0, asked.err
    shown = json.loads(asked.out)
    assert (shown["secure"]["t"], shown["secure_aggregation"]) == (4, "on")
    assert len(shown["plan"]) == 64
