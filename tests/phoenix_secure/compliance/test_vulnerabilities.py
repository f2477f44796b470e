"""A list of known vulnerabilities that is handed in: kept, matched, printed, and never trusted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.compliance import vulnerabilities as module
from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.output import attach_vulnerabilities, write_report
from phoenix_secure.compliance.overview import measures
from phoenix_secure.compliance.schema import Kind
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.verify import verify_report
from phoenix_secure.compliance.vulnerabilities import (
    parse_vulnerabilities,
    pypi_packages,
    read_vulnerabilities,
)
from phoenix_secure.errors import ConfigError

_PACKAGES = {"torch": "2.13.0+cpu", "numpy": "2.4.6"}


def record(id: str = "GHSA-aaaa-bbbb-cccc", **changes: Any) -> dict[str, Any]:
    """As osv.dev writes it, with more than is read here."""
    return {
        "schema_version": "1.7.3",
        "id": id,
        "modified": "2026-11-20T10:11:12.345678Z",
        "published": "2026-11-01T00:00:00Z",
        "aliases": ["CVE-2026-0001"],
        "summary": "torch: a file runs code <script>",
        "details": "Long text.",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "torch", "purl": "pkg:pypi/torch"},
                "ranges": [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.14.0"}]}
                ],
                "versions": ["2.12.0", "2.13.0"],
                "database_specific": {"source": "https://example.org"},
            }
        ],
        "references": [{"type": "WEB", "url": "https://example.org"}],
        **changes,
    }


def other(ecosystem: str = "PyPI") -> dict[str, Any]:
    """Somebody else's package."""
    package = {"ecosystem": ecosystem, "name": "some-other-package"}
    return {
        "id": "PYSEC-2026-1",
        "modified": "2026-11-29T00:00:00Z",
        "affected": [{"package": package, "versions": ["1.0"]}],
    }


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def zipped(path: Path, **members: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name + ".json", value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("form", ["list", "vulns", "zip"])
def test_what_names_a_component_is_kept_with_the_digest_of_all(form: str, tmp_path: Path) -> None:
    both = [record(), other()]
    path = {
        "list": lambda: written(tmp_path / "osv.json", both),
        "vulns": lambda: written(tmp_path / "osv.json", {"vulns": both}),
        "zip": lambda: zipped(tmp_path / "all.zip", a=both[0], b=both[1]),
    }[form]()
    kept = read_vulnerabilities(path, packages=_PACKAGES)
    assert b"some-other-package" not in kept
    found = parse_vulnerabilities(kept, name="kept", packages=_PACKAGES)
    assert found["list"] == {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "records": 2,
        "newest_record": "2026-11-29",
    }
    (row,) = found["affected"]
    assert (row["package"], row["version"], row["id"]) == (
        "torch",
        "2.13.0+cpu",
        "GHSA-aaaa-bbbb-cccc",
    )
    assert row["fixed_in"] == ["2.14.0"]
    assert found["looked_up"] == {"numpy": "2.4.6", "torch": "2.13.0+cpu"}


def test_python_and_the_machine_are_no_packages() -> None:
    found = pypi_packages({"python": "3.11.7", "platform": "Linux", "torch": "2.13.0"})
    assert found == {"torch": "2.13.0"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("[NaN]", "not JSON"),
        ('{"id": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\ufeff[]", "not JSON"),
        ([], "no record of a PyPI package"),
        ({"results": []}, "no record of the OSV schema"),
        ([other("npm")], "no record of a PyPI package"),
        (["text"], "record 1 is no record"),
        ([record(schema_version="2.0.0")], r"OSV schema 1\.x"),
        ([record(schema_version=1)], r"OSV schema 1\.x"),
        ([record(id=7)], "id, affected"),
        ([record(affected={})], "id, affected"),
        ([record(modified="yesterday")], "modified"),
        ([record(modified="2026-11-20T10:11:12")], "modified"),  # of which zone
        ([record(), record(severity="high")], r"record 2.*\(severity\)"),
        ([record(id="x" * 500)], r"\(id\)"),
    ],
    ids=range(16),
)
def test_what_is_no_such_list_is_refused_by_name(value: Any, named: str, tmp_path: Path) -> None:
    path = written(tmp_path / "osv.json", value)
    with pytest.raises(ConfigError, match=named) as refused:
        read_vulnerabilities(path, packages=_PACKAGES)
    assert "osv.json" in str(refused.value)
    assert "all.zip" in str(refused.value)


def test_files_that_are_missing_or_too_long_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_vulnerabilities(tmp_path / "none.json", packages=_PACKAGES)
    monkeypatch.setattr(module, "_MAX_JSON_BYTES", 100)
    with pytest.raises(ConfigError, match="longer than"):
        read_vulnerabilities(written(tmp_path / "osv.json", [record()]), packages=_PACKAGES)


def test_a_zip_that_grows_is_read_no_further_than_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zipped(tmp_path / "all.zip", a=" " * (1 << 23))
    assert bomb.stat().st_size < 1 << 15
    with pytest.raises(ConfigError, match=r"a\.json is longer"):
        read_vulnerabilities(bomb, packages=_PACKAGES)
    monkeypatch.setattr(module, "_MAX_ALL_BYTES", 500)
    many = zipped(tmp_path / "many.zip", a=record(), b=record())
    with pytest.raises(ConfigError, match="longer than records are"):
        read_vulnerabilities(many, packages=_PACKAGES)


@given(at=st.integers(0, 400), flipped=st.integers(1, 255))
def test_a_zip_of_which_a_byte_was_changed_is_read_or_refused(at: int, flipped: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = zipped(Path(folder) / "all.zip", a=record())
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= flipped
        path.write_bytes(content)
        with contextlib.suppress(ConfigError):
            kept = read_vulnerabilities(path, packages=_PACKAGES)
            assert parse_vulnerabilities(kept, name="kept", packages=_PACKAGES)


def test_the_report_lists_matches_as_declared_and_verifies(run: Path, tmp_path: Path) -> None:
    before = build_report(run)
    assert before.value("D5.known_vulnerabilities") is None
    assert _measure(before).startswith("not looked up")
    attach_vulnerabilities(run, written(tmp_path / "osv.json", [record(), other()]))
    written_report = write_report(run, identity=server_identity(run), out=tmp_path / "report")
    field = written_report.report.field("D5.known_vulnerabilities")
    assert field.kind is Kind.DECLARED
    assert field.evidence[0].path == "vulnerabilities.json"
    assert [each["package"] for each in field.value["affected"]] == ["torch"]
    assert _measure(written_report.report) == "1 found, by a list of 2026-11-29"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "GHSA-aaaa-bbbb-cccc (CVE-2026-0001)" in page
    assert "a file runs code &lt;script&gt;" in page
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "| GHSA-aaaa-bbbb-cccc (CVE-2026-0001) |" in markdown
    assert not verify_report(tmp_path / "report" / "report.json", evidence=run).failed
    (run / "vulnerabilities.json").write_text(
        (run / "vulnerabilities.json").read_text().replace("GHSA-aaaa", "GHSA-zzzz")
    )
    assert verify_report(tmp_path / "report" / "report.json", evidence=run).failed


def test_a_kept_list_that_was_changed_by_hand_is_refused(run: Path) -> None:
    (run / "vulnerabilities.json").write_text('{"records": []}')
    with pytest.raises(ConfigError, match="hand the list in again"):
        build_report(run)


def _measure(report: Any) -> str:
    return {each.name: each.state for each in measures(report)}[
        "Known vulnerabilities of components"
    ]
