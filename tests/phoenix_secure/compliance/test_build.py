"""The report of a real run: complete, repeatable, and silent about what it must not say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix_secure.audit.recording import AuditRecords
from phoenix_secure.compliance.accountant import agrees
from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.catalogue import TITLES
from phoenix_secure.compliance.output import attach_sweep, write_report
from phoenix_secure.compliance.schema import Edition, Kind, Profile, Report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.verify import verify_report
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import Event, EvidenceError, Ledger
from phoenix_secure.federation.run.folder import RunFolder
from protocol import SERVER, Identity


def test_every_question_has_an_answer_of_one_kind(reported: Path) -> None:
    report = build_report(reported)
    handed_in = {"D5.known_vulnerabilities"}  # only with a list of them
    assert [each.id for each in report.fields] == [id for id in TITLES if id not in handed_in]
    for each in report.fields:
        assert (each.value is None) == (each.kind is Kind.MISSING)
        assert each.kind is not Kind.MISSING or each.note


def test_two_builds_give_the_same_bytes_in_every_file(reported: Path, tmp_path: Path) -> None:
    identity = server_identity(reported)
    for name in ("one", "two"):
        write_report(reported, identity=identity, out=tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_file_follows_its_own_schema_and_reads_back(reported: Path) -> None:
    content = (reported / "report" / "report.json").read_bytes()
    assert Report.model_validate_json(content).to_bytes() == content
    assert "compliant" not in content.decode().lower()


def test_epsilon_is_the_run_s_and_the_second_accountant_s(reported: Path) -> None:
    report = build_report(reported)
    summary = json.loads((reported / "summary.json").read_text())["guarantee"]
    assert report.value("C2.epsilon") == summary["epsilon"]
    assert agrees(summary["epsilon"], report.value("C2.recomputed"))
    for spent in report.value("C2.per_site").values():
        assert agrees(spent, summary["epsilon"])
    assert report.field("C2.epsilon").unit == "per record, delta 1e-05"


def test_a_claim_below_the_audit_s_lower_bound_is_a_fail_in_the_first_lines(
    run: Path, make_audit: Callable[..., bytes]
) -> None:
    (run / "audit" / "audit.json").write_bytes(make_audit(epsilon_lower=3.2))
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["guarantee"]["epsilon"] = 1.5
    path.write_text(json.dumps(summary))
    report = build_report(run)
    assert report.value("E6.consistency")["answer"] == "contradicted"
    assert any("at least 3.2" in text for text in report.headline.failures)
    assert report.headline.guarantee.startswith("Claimed, and contradicted by the evidence")
    # The ledger's events tell of the lie too, without any attack.
    assert any("second accountant" in text for text in report.headline.failures)
    write_report(run, identity=server_identity(run))
    page = (run / "report" / "report.html").read_text()
    assert page.index("FAIL: the evidence contradicts") < page.index('class="strip"')
    assert (run / "report" / "report.md").read_text().index("FAIL") < 120


def test_a_claim_without_any_event_in_the_ledger_is_a_fail(
    plain: Path, reported: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "copy"))
    summary = json.loads((copy / "summary.json").read_text())
    summary["guarantee"] = json.loads((reported / "summary.json").read_text())["guarantee"]
    (copy / "summary.json").write_text(json.dumps(summary))
    assert any("charges no event" in text for text in build_report(copy).headline.failures)


def test_a_run_without_privacy_says_no_formal_guarantee_first(
    plain: Path,
) -> None:
    report = build_report(plain)
    assert report.headline.guarantee.startswith("No formal guarantee")
    assert report.value("C2.epsilon") is None
    assert report.headline.failures == ()
    assert "No attack was tried" in report.headline.strongest_attack


def test_the_public_edition_names_no_site_no_small_group_and_no_member(reported: Path) -> None:
    public, inside = (
        build_report(reported, edition=edition).to_bytes().decode()
        for edition in (Edition.PUBLIC, Edition.CONFIDENTIAL)
    )
    assert not re.search(r"site-0\d", public)
    assert re.search(r"site-0\d", inside)
    assert '"num_members":37' not in public
    assert '"num_members":37' in inside
    assert '"index":' not in public


def test_excluded_sites_are_named_in_confidence_and_counted_in_public(run: Path) -> None:
    said = {"site": "site-02", "reason": "false complaint about a dealer", "proof": "ab" * 32}
    ledger = Ledger(run / "evidence" / "ledger.jsonl", identity=server_identity(run))
    assert "excluded sites" not in build_report(run).value("D2.rounds")
    ledger.append(Event.EXCLUDED, round=2, **said)
    what = f"false complaint about a dealer (round 2, proof {'ab' * 8})"
    for edition, who in ((Edition.PUBLIC, "a site"), (Edition.CONFIDENTIAL, "site-02")):
        rounds = build_report(run, edition=edition).value("D2.rounds")
        assert rounds["excluded sites"] == [f"{who}: {what}"]
    write_report(run, identity=server_identity(run), edition=Edition.CONFIDENTIAL)
    assert f"site-02: {what}" in (run / "report" / "report.md").read_text()
    assert not verify_report(run / "report" / "report.json", evidence=run).failed


def test_images_of_the_model_are_public_only_when_screened_for_copies(
    run: Path, make_audit: Callable[..., bytes]
) -> None:
    identity = server_identity(run)
    page = run / "report" / "report.html"
    assert "data:image/png" in page.read_text()
    (run / "audit" / "audit.json").write_bytes(make_audit(extracted=2))
    write_report(run, identity=identity)
    assert "data:image/png" not in page.read_text()
    assert "some are as near to a training image" in page.read_text()
    write_report(run, identity=identity, edition=Edition.CONFIDENTIAL)
    assert "data:image/png" in page.read_text()


def test_profiles_decide_what_counts_as_a_gap(reported: Path) -> None:
    few = build_report(reported, profiles=(Profile.DP_REGISTRY,))
    many = build_report(reported, profiles=tuple(Profile))
    assert 0 < len(few.gaps) < len(many.gaps)
    assert {each.id for each in few.gaps} <= {each.id for each in many.gaps}


def test_an_audit_is_recorded_once(run: Path) -> None:
    before = (run / "evidence" / "ledger.jsonl").read_bytes()
    records = AuditRecords.of(RunFolder(run))
    assert records is not None
    records.audited(run / "audit" / "audit.json")
    assert (run / "evidence" / "ledger.jsonl").read_bytes() == before


def test_the_report_is_not_signed_with_a_key_that_did_not_sign_the_ledger(run: Path) -> None:
    with pytest.raises(ConfigError, match="not the one that signed this run's ledger"):
        write_report(run, identity=Identity.generate(SERVER))


# Ten times ten to the fifth values in 130 bytes.
BOMB = b"a: &a [1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdef"
)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("summary.json", b"", "summary.json"),
        ("summary.json", b"[1, 2]", "summary.json"),
        ("summary.json", b'{"guarantee": NaN}', "summary.json"),
        ("summary.json", b'{"guarantee": {"epsilon": "0.1"}}', "summary.json"),
        ("audit/audit.json", b'{"format": "phoenix-secure/audit/v1"}', "audit again"),
        ("sites/site-01/privacy.jsonl", b'{"id": 1}\n', "privacy.jsonl"),
        ("governance.yaml", b"purpose: [", "report --template"),
        ("governance.yaml", b"a: &x [1]\nb: *x\n", "unknown setting a"),
        ("governance.yaml", BOMB, "holds more than 10000 values"),
    ],
)
def test_damaged_files_are_named_in_one_line(
    name: str, content: bytes, word: str, run: Path
) -> None:
    (run / name).write_bytes(content)
    with pytest.raises((EvidenceError, ConfigError)) as caught:
        build_report(run)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_guarantee_that_no_run_states_is_named(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["guarantee"] = {"epsilon": "0.1"}
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(EvidenceError, match=r"guarantee\.unit"):
        build_report(run)


def test_an_unfinished_run_has_no_report(run: Path) -> None:
    ledger = run / "evidence" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:6]))
    with pytest.raises(EvidenceError, match="not a finished run"):
        build_report(run)
    shutil.rmtree(run / "evidence")
    with pytest.raises(EvidenceError, match=r"ledger\.jsonl"):
        build_report(run)


def results(**changes: object) -> list[dict[str, object]]:
    point = {
        "point": "eps-10",
        "status": "done",
        "unit": "record",
        "epsilon": 9.98,
        "delta": 1e-5,
        "kid": 6.7,
        "precision": 0.5,
        "recall": 0.1,
        "accuracy_synthetic": 0.55,
        "audit_auc": 0.52,
        "bytes_up": 5,
    }
    free = {**point, "point": "none", "unit": "none", "epsilon": None, "delta": None, "kid": 4.6}
    late = {**point, "point": "eps-1", "status": "missing", "kid": None}
    return [free, late, {**point, **changes}]


SPENT = {
    "unit": "record",
    "adjacency": "add or remove one image",
    "epsilon": 9.98,
    "delta": 1e-5,
    "points": 1,
    "data": "image-folder /mnt/clinic-a 437",
}


def write_sweep(folder: Path, points: object) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(points))
    (folder / "spent.json").write_text(json.dumps({"words": "at /mnt/clinic-a", "totals": [SPENT]}))
    return folder


def test_a_sweep_that_is_handed_in_is_printed_as_declared(run: Path, tmp_path: Path) -> None:
    assert build_report(run).field("F3.frontier").kind is Kind.MISSING
    attach_sweep(run, write_sweep(tmp_path / "sweep", results()))
    field = build_report(run, edition=Edition.CONFIDENTIAL).field("F3.frontier")
    assert field.kind is Kind.DECLARED
    assert [each["point"] for each in field.value["points"]] == ["eps-10", "none"]
    assert field.value["not_finished"] == 1
    public = build_report(run)
    assert [each["point"] for each in public.value("F3.frontier")["points"]] == [
        "point 1",
        "point 2",
    ]
    assert public.value("F3.frontier")["spent_by_all"][0]["epsilon"] == 9.98
    assert "clinic-a" not in public.to_bytes().decode()
    assert field.evidence[0].path == "sweep.json"


@pytest.mark.parametrize("points", [{}, [1], results(kid="good"), results(epsilon=float("inf"))])
def test_what_is_no_sweep_changes_nothing(run: Path, tmp_path: Path, points: object) -> None:
    folder = write_sweep(tmp_path / "sweep", points)
    with pytest.raises(ConfigError, match="sweep"):
        attach_sweep(run, folder)
    with pytest.raises(ConfigError, match="name the folder of a sweep"):
        attach_sweep(run, tmp_path / "nowhere")
    assert not (run / "sweep.json").exists()
