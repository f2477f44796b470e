"""An entry for the OpenDP deployments registry: how this run used differential privacy.

Source: opendp/deployments-registry-data, schemas/deployments-schema.yaml at commit 057e5d8. The
entry is a draft for whoever submits it: the registry's board reviews it, and nobody here has.
"""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.schema import Report
from phoenix_secure.yaml_text import dump_yaml

__all__ = ["registry_entry", "registry_obstacle", "to_registry_entry"]


def to_registry_entry(report: Report) -> str | None:
    """YAML, or None where ``registry_obstacle`` says why there is none."""
    if registry_obstacle(report) is not None:
        return None
    return dump_yaml(registry_entry(report), allow_unicode=True)


def registry_obstacle(report: Report) -> str | None:
    """The reason why no entry can be written; None where one can."""
    if report.value("C2.epsilon") is None:
        return "the run has no formal guarantee"
    if report.headline.failures:
        return "the report says FAIL"
    if not _curators(report):
        return (
            "the registry asks who publishes: name a controller with its kind in governance.yaml "
            "(parties.controllers)"
        )
    return None


def registry_entry(report: Report) -> dict[str, Any]:
    """The entry as plain values.

    Raises:     ValueError where there is an obstacle.
    """
    if (obstacle := registry_obstacle(report)) is not None:
        raise ValueError(f"no registry entry: {obstacle}")
    return {
        "url_slug": f"phoenix-secure-{report.id[:12]}",
        "deployment": {
            "basic": _basic(report),
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": "images held by the sites, each site its own",
                "unprotected_quantities": _list(report.value("B4.unprotected")),
            },
            "privacy_loss": _privacy_loss(report),
            "deployment_model": _deployment_model(report),
            "implementation": _implementation(report),
            "administrative": {
                "evidence_sources": {
                    "signed_report": {
                        "evidence_source_type": "Authorized organizational attestation",
                        "misc": {
                            "title": f"report.json, id {report.id}",
                            "note": "signed (DSSE, Ed25519); phoenix-secure verify checks it",
                        },
                    }
                },
                "status": "Draft",
                "registry_authors": [_text((report.value("A4.signatory") or {}).get("name"))],
                "tier": 3,
            },
        },
    }


def _basic(report: Report) -> dict[str, Any]:
    found = {
        "name": f"Federated diffusion model {report.id[:12]}",
        "data_curators": _curators(report),
        "description": report.headline.trained,
        "intended_use": _text(report.value("A3.purpose")),
        "data_product_type": "Machine learning model",
        "data_product_region": _text(report.value("A6.region")),
        "publication_date": report.evidence_until[:10],
    }
    sector = report.value("A6.sector")
    return found if sector is None else {**found, "data_product_sector": sector.capitalize()}


def _curators(report: Report) -> list[dict[str, str]]:
    return [
        {"data_curator_name": each["name"], "data_curator_type": each["kind"].capitalize()}
        for each in report.value("A4.controllers") or []
        if each["kind"] is not None
    ]


def _privacy_loss(report: Report) -> dict[str, Any]:
    unit = report.value("B3.unit")
    return {
        "privacy_unit": {
            "record": "one image",
            "group": "all images of one person",
            "site": "one site",
        }[unit["unit"]],
        "privacy_unit_details": unit["adjacency"],
        "privacy_parameters": {
            "epsilon": report.value("C2.epsilon"),
            "delta": report.value("C2.delta"),
        },
        "privacy_parameters_details": "; ".join(
            f"{name}: {value:.4g}" for name, value in report.value("C2.figures").items()
        ),
    }


def _deployment_model(report: Report) -> dict[str, Any]:
    summed = report.value("D2.secure_aggregation")["mode"] == "on"
    return {
        "model_name": "Federated",
        "model_name_details": f"secure aggregation {'on' if summed else 'off'}",
        "trust_assumptions": _list(
            [f"{who}: trusted {what}" for who, what in report.value("D1.trusted").items()]
        ),
        "actors": _list(list(report.value("D1.trust"))),
        "release_type": "One release",
        "release_type_details": "the model after the last round; further use of the images is "
        "not known to this run",
        "data_source_type": "Static",
        "access_type": "Non-interactive",
    }


def _implementation(report: Report) -> dict[str, Any]:
    mechanism = report.value("C1.mechanism")
    return {
        "preprocessing_and_hyperparameter_tuning": _text(report.value("B2.preprocessing")),
        "mechanisms": f"{mechanism['mechanism']}; noise multiplier "
        f"{mechanism['noise_multiplier']:.4g}; noise from {mechanism['noise_source']}",
        "composition": "adaptive over the rounds of a site, parallel over disjoint sites",
        "post_processing": "averaging of weights, samples drawn from the model",
        "justification": _text(report.value("F3.trade_off")),
        "additional_information": report.headline.strongest_attack,
    }


def _text(value: Any) -> str:
    return str(value) if value else "not declared"


def _list(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
