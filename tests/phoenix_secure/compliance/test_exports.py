"""Exports under the schemas of those who read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.exports.bom import to_bom
from phoenix_secure.compliance.exports.model_card import to_model_card
from phoenix_secure.compliance.exports.registry import registry_obstacle, to_registry_entry

REGISTRY = yaml.safe_load((Path(__file__).parent / "registry_schema.yaml").read_text())
DECLARED = {
    "parties": {"controllers": [{"name": "Clinic A", "kind": "nonprofit"}]},
    "data": {"region": "Germany", "sector": "healthcare"},
}


def bom_errors(content: bytes) -> object:
    # Not above: every test process imports this file, and jsonschema takes two seconds.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_7).validate_str(content.decode())


@pytest.mark.long
def test_the_bom_passes_the_strict_schema_of_cyclonedx_1_7(reported: Path, plain: Path) -> None:
    assert bom_errors(to_bom(build_report(reported))) is None
    assert bom_errors(to_bom(build_report(plain))) is None


def test_the_strict_schema_refuses_what_is_no_bom(reported: Path) -> None:
    bom = json.loads(to_bom(build_report(reported)))
    bom["metadata"]["component"]["modelCard"]["private"] = True
    assert bom_errors(json.dumps(bom).encode()) is not None


def test_the_bom_names_the_weights_and_every_claim_has_evidence(reported: Path) -> None:
    report = build_report(reported)
    bom = json.loads(to_bom(report))
    weights = bom["metadata"]["component"]["hashes"][0]["content"]
    assert weights in report.value("A2.files").values()
    known = {each["bom-ref"] for each in bom["declarations"]["evidence"]}
    assert all(set(claim["evidence"]) <= known for claim in bom["declarations"]["claims"])
    assert "attestations" not in bom["declarations"]  # nobody attests conformance


def registry_errors(entry: object) -> list[str]:
    from jsonschema import Draft202012Validator, FormatChecker

    validator = Draft202012Validator(REGISTRY, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(entry)]


def test_the_registry_entry_follows_the_registry_s_schema(run: Path) -> None:
    (run / "governance.yaml").write_text(json.dumps(DECLARED))
    text = to_registry_entry(build_report(run))
    assert text is not None
    entry = yaml.safe_load(text)
    assert registry_errors(entry) == []
    assert entry["deployment"]["basic"]["data_product_sector"] == "Healthcare"
    curators = entry["deployment"]["basic"]["data_curators"]
    assert curators == [{"data_curator_name": "Clinic A", "data_curator_type": "Nonprofit"}]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("privacy_loss", "privacy_parameters", "epsilon"), "small"),
        (("basic", "data_curators"), []),
        (("basic", "data_product_sector"), "Astrology"),
        (("administrative", "status"), "Certified"),
        (("deployment_model", "surprise"), "x"),
    ],
)
def test_the_schema_refuses_what_is_no_entry(
    run: Path, place: tuple[str, ...], value: object
) -> None:
    (run / "governance.yaml").write_text(json.dumps(DECLARED))
    entry = yaml.safe_load(to_registry_entry(build_report(run)) or "")
    part = entry["deployment"]
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    assert registry_errors(entry)


def test_without_a_curator_there_is_no_entry_and_the_reason_names_the_setting(
    reported: Path,
) -> None:
    report = build_report(reported)
    assert to_registry_entry(report) is None
    assert "parties.controllers" in (registry_obstacle(report) or "")


def test_a_run_without_a_guarantee_has_no_registry_entry(
    plain: Path,
) -> None:
    assert to_registry_entry(build_report(plain)) is None


def test_the_model_card_has_front_matter_and_a_privacy_section(reported: Path) -> None:
    report = build_report(reported)
    _, front, body = to_model_card(report).split("---\n", 2)
    assert "differential-privacy" in yaml.safe_load(front)["tags"]
    assert "## Privacy" in body
    assert "not declared" in body


@pytest.mark.parametrize("text", ["| x | y |", "<script>alert(1)</script>", "# A\n\n# B"])
def test_declared_text_cannot_break_out_of_a_card(text: str, run: Path) -> None:
    (run / "governance.yaml").write_text(json.dumps({"purpose": {"text": text}}))
    card = to_model_card(build_report(run))
    assert "<script>" not in card
    line = next(line for line in card.splitlines() if line.startswith("- Purpose:"))
    assert "\\" in line
