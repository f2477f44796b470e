"""An entry for the OpenDP deployments registry: how this run used differential privacy.

Source: opendp/deployments-registry-data, schemas/deployments-schema.yaml as of July 2026. The
entry is a draft: its authors, region and sector are for whoever submits it.
"""

from __future__ import annotations

from typing import Any

import yaml

from phoenix_secure.compliance.schema import Report

__all__ = ["registry_entry", "to_registry_entry"]


def to_registry_entry(report: Report) -> str | None:
    """YAML, or None for a run whose guarantee is none or is contradicted."""
    entry = registry_entry(report)
    return None if entry is None else yaml.safe_dump(entry, sort_keys=False, allow_unicode=True)


def registry_entry(report: Report) -> dict[str, Any] | None:
    """The entry as plain values."""
    epsilon = report.value("C2.epsilon")
    if epsilon is None or report.headline.failures:
        return None
    unit, mechanism = report.value("B3.unit"), report.value("C1.mechanism")
    summed = report.value("D2.secure_aggregation")["mode"] == "on"
    curators = [each["name"] for each in report.value("A4.controllers") or []]
    return {
        "url_slug": f"phoenix-secure-{report.id[:12]}",
        "status": "Draft",
        "tier": 3,
        "deployment": {
            "basic": {
                "name": f"Federated diffusion model {report.id[:12]}",
                "data_curators": curators or ["not declared"],
                "intended_use": _text(report.value("A3.purpose")),
                "data_product_type": "Machine learning model",
                "data_product_region": "not declared",
                "description": report.headline.trained,
                "publication_date": report.evidence_until[:10],
            },
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": "images held by the sites, each site its own",
                "unprotected_quantities": _list(report.value("B4.unprotected")),
            },
            "privacy_loss": {
                "privacy_unit": {"record": "one image", "site": "one site"}[unit["unit"]],
                "privacy_unit_details": unit["adjacency"],
                "privacy_parameters": {"epsilon": epsilon, "delta": report.value("C2.delta")},
                "privacy_parameters_details": "; ".join(
                    f"{name}: {value:.4g}" for name, value in report.value("C2.figures").items()
                ),
            },
            "deployment_model": {
                "model_name": "Federated",
                "model_name_details": "secure aggregation on"
                if summed
                else "secure aggregation off",
                "actors": _list(
                    [f"{who}: trusted {what}" for who, what in report.value("D1.trusted").items()]
                ),
                "release_type": "One release",
                "data_source_type": "Static",
                "access_type": "Non-interactive",
            },
            "accounting": {
                "post_processing": "averaging of weights, samples drawn from the model",
                "composition": "adaptive over the rounds of a site, parallel over disjoint sites",
            },
            "implementation": {
                "preprocessing_and_hyperparameter_tuning": _text(report.value("B2.preprocessing")),
                "mechanisms": f"{mechanism['mechanism']}; noise multiplier "
                f"{mechanism['noise_multiplier']:.4g}; noise from {mechanism['noise_source']}",
                "justification": _text(report.value("F3.trade_off")),
            },
            "administrative": {
                "sources": f"report.json (id {report.id}), signed",
                "notes": report.headline.strongest_attack,
                "registry_authors": [_text((report.value("A4.signatory") or {}).get("name"))],
            },
        },
    }


def _text(value: Any) -> str:
    return str(value) if value else "not declared"


def _list(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
