"""CycloneDX 1.7 ML-BOM: the model, its card, libraries, and what is claimed about it.

Source: ECMA-424 (CycloneDX), bom-1.7.schema.json.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from phoenix_secure.compliance.schema import Kind, Report

__all__ = ["to_bom"]

_DIFFUSION = "denoising diffusion probabilistic model"
_NAMESPACE = uuid.UUID("8a3c3c1e-6f6e-5d8c-9a56-6d1a4b1f5f10")


def to_bom(report: Report) -> bytes:
    """The BOM as JSON; its serial number follows from the report's id.

    Guarantee:  valid under the strict CycloneDX 1.7 schema; no verdict of conformance, only
                claims with their evidence.
    """
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, report.id)}",
        "version": 1,
        "metadata": {
            "timestamp": report.evidence_until,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": report.tool.name,
                        "version": report.tool.version,
                    }
                ]
            },
            "component": _model(report),
        },
        "components": [*_libraries(report), _data(report)],
        "dependencies": [
            {"ref": "model", "dependsOn": [each["bom-ref"] for each in _libraries(report)]}
        ],
        "declarations": _declarations(report),
    }
    return (json.dumps(bom, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _model(report: Report) -> dict[str, Any]:
    architecture = report.value("A2.architecture")
    weights = {
        name: digest
        for name, digest in report.value("A2.files").items()
        if name.endswith(".safetensors")
    }
    is_generator = architecture.get("release", {}).get("then") == "none"
    family = "generative moment matching network" if is_generator else _DIFFUSION
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": "federated diffusion model",
        "version": report.id[:12],
        "description": report.headline.trained,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in weights.values()],
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for name, digest in report.value("A2.files").items()
        ],
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": {
                "approach": {"type": "unsupervised"},
                "task": "unconditional or class-conditional image generation",
                "architectureFamily": family,
                "modelArchitecture": ", ".join(
                    str(architecture[name])
                    for name in ("network", "preset")
                    if name in architecture
                ),
                "datasets": [{"ref": "training-data"}],
                "inputs": [{"format": "noise"}],
                "outputs": [{"format": "image"}],
            },
            "considerations": _considerations(report),
        },
        "properties": [
            {"name": f"phoenix-secure:{id}", "value": str(report.value(id))}
            for id in ("C2.epsilon", "C2.delta", "C5.statement")
            if report.value(id) is not None
        ],
    }
    metrics = _metrics(report)
    if metrics:
        component["modelCard"]["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return component


def _metrics(report: Report) -> list[dict[str, Any]]:
    found = []
    quality = report.value("F1.quality")
    for name, value in (quality or {"rows": {}})["rows"].get("generated", {}).items():
        is_metric = not name.startswith("num_") and not name.endswith("_std")
        if is_metric and isinstance(value, int | float):
            found.append({"type": name, "value": f"{value:.6g}", "slice": "generated"})
    best = report.value("E4.strongest")
    if best is not None:
        auc = best["auc"]
        found.append(
            {
                "type": "membership inference AUC",
                "value": f"{auc['value']:.6g}",
                "slice": str(best["name"]),
                "confidenceInterval": {
                    "lowerBound": f"{auc['low']:.6g}",
                    "upperBound": f"{auc['high']:.6g}",
                },
            }
        )
    return found


def _considerations(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {
        "technicalLimitations": list(report.value("G1.limits")),
        "performanceTradeoffs": [report.headline.guarantee],
    }
    uses = report.value("A3.intended_uses")
    if uses:
        found["useCases"] = list(uses)
    recipients = report.value("A3.recipients")
    if recipients:
        found["users"] = list(recipients)
    risks = [
        {"name": row["attack"], "mitigationStrategy": row["detail"]}
        for row in report.value("E3.coverage")
        if row["state"] == "not run"
    ]
    if risks:
        found["ethicalConsiderations"] = risks
    return found


def _libraries(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version.partition('+')[0]}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version.partition('+')[0]}",
        }
        for name, version in sorted(report.value("D5.components").items())
        if name not in ("python", "platform")
    ]


def _data(report: Report) -> dict[str, Any]:
    sensitive = report.value("B1.special_categories")
    entry: dict[str, Any] = {
        "type": "dataset",
        "name": str(report.value("B1.data_set")),
        "classification": "special categories"
        if sensitive
        else ("not declared" if sensitive is None else "no special categories declared"),
        "description": f"images of {report.value('B1.num_sites')} sites, held by the sites alone",
    }
    return {
        "type": "data",
        "bom-ref": "training-data",
        "name": str(report.value("B1.data_set")),
        "data": [entry],
    }


def _declarations(report: Report) -> dict[str, Any]:
    """Claims of the report, each with where it can be looked up; nobody attests conformance."""
    claims, evidence = [], []
    for id in ("C5.statement", "E4.verdict", "E6.consistency", "H1.ledger"):
        field = report.field(id)
        if field.kind is Kind.MISSING:
            continue
        evidence.append(
            {
                "bom-ref": f"evidence:{id}",
                "propertyName": field.title,
                "description": "; ".join(
                    f"{each.path} {each.pointer} sha256:{each.sha256}" for each in field.evidence
                )
                or "follows from other fields of report.json",
            }
        )
        claims.append(
            {
                "bom-ref": f"claim:{id}",
                "target": "model",
                "predicate": f"{field.title} ({field.kind.value}): {_short(field.value)}",
                "evidence": [f"evidence:{id}"],
            }
        )
    return {"claims": claims, "evidence": evidence}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) < 500 else text[:500] + " ..."
