"""Sections of extensions: signed, escaped, marked as not verified, and never more than an annex."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix_secure import extensions
from phoenix_secure.compliance.annex import with_sections
from phoenix_secure.compliance.build import annexed, build_report
from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.page import to_html, to_markdown
from phoenix_secure.compliance.schema import Report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.alone import read_report
from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence.canonical import canonical, parse_canonical
from phoenix_secure.extensions import ReportSection

HOSTILE = "<script>alert(1)</script>|**bold**"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})


@pytest.fixture(scope="module")
def report(reported: Path) -> Report:
    return build_report(reported)


def register(write: Callable[[Any], Any], name: str = "own") -> None:
    extensions.register("report_section", name, write)


def epsilon_again(report: Any) -> ReportSection:
    return ReportSection(
        title=f"Of {HOSTILE}",
        text=[f"{HOSTILE} in a paragraph"],
        columns=["epsilon", HOSTILE],
        rows=[[f"{report.value('C2.epsilon'):.3f}", HOSTILE]],
    )


@pytest.mark.long
def test_a_section_is_in_every_form_of_the_report_and_starts_nothing(report: Report) -> None:
    register(epsilon_again)
    found = with_sections(report, ["own"])
    assert found.annex[0].rows[0][0] == f"{report.value('C2.epsilon'):.3f}"
    html, text = to_html(found, samples=None), to_markdown(found)
    assert "By the extension <code>own</code>" in html
    assert "<script>" not in html
    assert "By the extension own; not verified." in text
    assert "\n| epsilon | \\<script\\>" in text
    assert "<script>" not in text


def test_a_report_without_an_annex_keeps_its_bytes(report: Report) -> None:
    assert with_sections(report, []) is report
    assert b"annex" not in report.to_bytes()
    assert 'id="annex"' not in to_html(report, samples=None)
    assert "Annex" not in to_markdown(report)


def test_a_writer_gets_a_copy(report: Report) -> None:
    def forge(given: Any) -> ReportSection:
        given.value("D3.keys")["server key"] = "00"
        given.field("C5.statement").__dict__["value"] = "forged"
        return ReportSection(title="Forged")

    register(forge)
    found = with_sections(report, ["own"])
    assert found.fields == report.fields
    assert "forged" not in str(found.fields)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda report: {"title": "x"}, "must return a phoenix_secure.ReportSection, got dict"),
        (lambda report: 1 / 0, "failed \\(ZeroDivisionError"),
        (lambda report: ReportSection(title=""), "title"),
        (lambda report: ReportSection(title="x", text="one"), "text"),
        (lambda report: ReportSection(title="x", columns=["a"], rows=[["1", "2"]]), "as many"),
        (lambda report: ReportSection(title="x", columns=["a"], rows=[[1]]), r"rows\.0\.0"),
        (lambda report: ReportSection(title="x", text=["\ud800"]), r"text\.0"),
        (lambda report: ReportSection(title="x", text=["a" * 5000]), "at most 4000"),
    ],
)
def test_what_is_no_section_is_refused(
    report: Report, write: Callable[[Any], Any], message: str
) -> None:
    register(write)
    with pytest.raises(ConfigError, match=message):
        with_sections(report, ["own"])


def test_a_name_that_is_missing_or_given_twice_is_refused(report: Report) -> None:
    with pytest.raises(ConfigError, match="no report section 'own' is registered"):
        with_sections(report, ["own"])
    register(epsilon_again)
    with pytest.raises(ConfigError, match="named twice"):
        with_sections(report, ["own", "own"])


def _signed(run: Path) -> Path:
    register(epsilon_again)
    write_report(run, identity=server_identity(run), sections=["own"])
    extensions._REGISTERED.clear()  # whoever verifies has no such extension
    return run / "report" / "report.json"


def test_verification_runs_no_extension_and_says_who_wrote_the_annex(
    run: Path, reported: Path
) -> None:
    path = _signed(run)
    roster = load_roster(reported / "roster.bin", owner_key=None)
    checked = verify_report(path, evidence=run, roster=roster)
    assert checked.failed == ()
    detail = next(each.detail for each in checked.checks if each.name == "annex")
    assert detail == "as signed; what it says, by the extension own, is not verified"


def _drop(value: dict[str, Any]) -> None:
    del value["annex"]


def _rewrite(value: dict[str, Any]) -> None:
    value["annex"][0]["text"] = ["Epsilon is 0.1."]


def _claim_another_writer(value: dict[str, Any]) -> None:
    value["annex"][0]["extension"] = "phoenix-secure"


@pytest.mark.parametrize("forge", [_drop, _rewrite, _claim_another_writer])
def test_an_annex_that_was_changed_fails(
    forge: Callable[[dict[str, Any]], None], run: Path, reported: Path
) -> None:
    """Even with the id computed again, as a careful forger would."""
    path = _signed(run)
    value = parse_canonical(path.read_bytes())
    assert isinstance(value, dict)
    forge(value)
    path.write_bytes(canonical(value))
    roster = load_roster(reported / "roster.bin", owner_key=None)
    checked = verify_report(path, evidence=run, roster=roster)
    names = {each.name for each in checked.failed}
    assert {"report id", "report.json is the signed one"} <= names
    forged = read_report(path)
    path.write_bytes(annexed(forged, forged.annex).to_bytes())
    checked = verify_report(path, evidence=run, roster=roster)
    assert [each.name for each in checked.failed] == ["report.json is the signed one"]
