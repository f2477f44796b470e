"""Exports under the schemas of those who read them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft202012Validator, FormatChecker

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.exports.bom import to_bom
from phoenix_secure.compliance.exports.model_card import to_model_card
from phoenix_secure.compliance.exports.registry import to_registry_entry


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


TEXT: dict[str, Any] = {"type": "string"}
LIST: dict[str, Any] = {"type": "array", "items": TEXT, "minItems": 1}
# The registry's schema by its names and enumerations (deployments-schema.yaml, July 2026).
REGISTRY = _object(
    ["status", "tier", "deployment"],
    url_slug=TEXT,
    status={"enum": ["Draft", "Pending", "Changes Required", "Approved"]},
    tier={"enum": [1, 2, 3]},
    deployment=_object(
        ["basic", "administrative"],
        basic=_object(
            ["name", "data_curators", "description", "intended_use", "data_product_type"],
            name=TEXT,
            data_curators=LIST,
            intended_use=TEXT,
            data_product_type={
                "enum": ["Summary statistics", "Machine learning model", "Dataset"],
            },
            data_product_region=TEXT,
            description=TEXT,
            publication_date={"type": "string", "format": "date"},
            data_product_sector=TEXT,
        ),
        dp_variant=_object(
            ["variant_name"],
            variant_name={
                "enum": [
                    "Pure DP",
                    "Approximate DP",
                    "Zero-concentrated DP",
                    "Renyi DP",
                    "Custom",
                ]
            },
            data_domain=TEXT,
            unprotected_quantities=TEXT,
        ),
        privacy_loss=_object(
            ["privacy_unit", "privacy_parameters"],
            privacy_unit=TEXT,
            privacy_unit_details=TEXT,
            privacy_parameters=_object(
                [],
                epsilon={"type": "number"},
                delta={"type": "number"},
                rho={"type": "number"},
            ),
            privacy_parameters_details=TEXT,
        ),
        deployment_model=_object(
            ["model_name"],
            model_name={"enum": ["Local", "Central", "Shuffle", "Federated", "Varies"]},
            model_name_details=TEXT,
            actors=TEXT,
            release_type={"enum": ["One release", "Many releases"]},
            data_source_type={"enum": ["Static", "Dynamic"]},
            access_type={"enum": ["Interactive", "Non-interactive"]},
        ),
        accounting=_object([], post_processing=TEXT, composition=TEXT),
        implementation=_object(
            [],
            preprocessing_and_hyperparameter_tuning=TEXT,
            mechanisms=TEXT,
            justification=TEXT,
        ),
        administrative=_object([], sources=TEXT, notes=TEXT, registry_authors=LIST),
    ),
)


def bom_errors(content: bytes) -> object:
    return JsonStrictValidator(SchemaVersion.V1_7).validate_str(content.decode())


def test_the_bom_passes_the_strict_schema_of_cyclonedx_1_7(
    reported: Path, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    assert bom_errors(to_bom(build_report(reported))) is None
    plain = make_run(tmp_path / "plain", "federation.rounds=1")
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


def test_the_registry_entry_follows_the_registry_s_schema(reported: Path) -> None:
    text = to_registry_entry(build_report(reported))
    assert text is not None
    entry = yaml.safe_load(text)
    validator = Draft202012Validator(REGISTRY, format_checker=FormatChecker())
    assert list(validator.iter_errors(entry)) == []
    wrong = copy.deepcopy(entry)
    wrong["deployment"]["privacy_loss"]["privacy_parameters"]["epsilon"] = "small"
    assert list(validator.iter_errors(wrong))


def test_a_run_without_a_guarantee_has_no_registry_entry(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    assert (
        to_registry_entry(build_report(make_run(tmp_path / "run", "federation.rounds=1"))) is None
    )


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
