"""What the probes say about a real door: guarded, open to everybody, of another authority."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_door import Door, open_door
from phoenix_secure.federation.deployment.door_probe import probe_door, probe_guard
from phoenix_secure.federation.engines.supernode import (
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    CertifiedClient,
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with open_door(tmp_path_factory.mktemp("guarded"), sites=("a",)) as found:
        yield found


def levels(findings) -> list[tuple[str, str]]:
    return [(finding.name, finding.level) for finding in findings]


def address_of(door: Door) -> str:
    return f"127.0.0.1:{door.port}"


def test_door_that_asks_for_certificates_is_as_it_should_be(guarded: Door) -> None:
    found = probe_guard(address_of(guarded), guarded.root / "ca.crt")
    assert levels(found) == [("door", "ok")]
    assert "refused in the TLS handshake" in found[0].message


def test_site_looks_behind_the_door_with_its_own_certificate(guarded: Door) -> None:
    own = (guarded.root / "a.crt", guarded.root / "a.key")
    found = probe_door(address_of(guarded), guarded.root / "ca.crt", own)
    # The stand-in for the SuperLink lets everybody in, and that is noticed.
    assert levels(found)[:2] == [("door", "ok"), ("stranger", "bad")]


def test_door_without_certificates_is_noted(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        found = probe_guard(address_of(door), tmp_path / "ca.crt")
    assert levels(found) == [("door", "note")]
    assert "client_certificates: true" in found[0].message


def test_server_of_another_authority_is_bad(guarded: Door, tmp_path: Path) -> None:
    with open_door(tmp_path):
        pass
    found = probe_guard(address_of(guarded), tmp_path / "ca.crt")
    assert levels(found) == [("door", "bad")]
    assert "compare ca.crt" in found[0].message


def test_nobody_there_is_bad(guarded: Door) -> None:
    found = probe_guard("127.0.0.1:1", guarded.root / "ca.crt")
    assert levels(found) == [("door", "bad")]
    assert "start the server" in found[0].message


@pytest.mark.parametrize("as_bytes", [True, False])
def test_supernode_shows_the_certificate_that_its_environment_names(
    guarded: Door, monkeypatch: pytest.MonkeyPatch, as_bytes: bool
) -> None:
    ca = guarded.root / "ca.crt"
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(guarded.root / "a.crt"))
    monkeypatch.setenv(KEY_VARIABLE, str(guarded.root / "a.key"))
    roots = ca.read_bytes() if as_bytes else str(ca)
    with CertifiedClient.from_server_address(address_of(guarded), False, roots, []) as client:
        answer = client._client.post(f"https://{address_of(guarded)}/v1/fleet/get-run")
    assert answer.status_code == 200
