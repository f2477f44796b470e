"""A model card in Hugging Face's form, with the section that its template lacks: privacy.

Source: Mitchell et al. (2019), arXiv:1810.03993; Hugging Face model cards (YAML front matter).
"""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.schema import Report
from phoenix_secure.printed_text import markdown_cell
from phoenix_secure.yaml_text import dump_yaml

__all__ = ["to_model_card"]


def to_model_card(report: Report) -> str:
    """Markdown with front matter; what nobody said is written as "not declared"."""
    epsilon = report.value("C2.epsilon")
    front: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "unconditional-image-generation",
        "tags": [
            "diffusion",
            "federated-learning",
            *(["differential-privacy"] if epsilon is not None else []),
        ],
    }
    best, quality = report.value("E4.strongest"), report.value("F1.quality")
    lines = [
        "---",
        dump_yaml(front, sort_keys=True).strip(),
        "---",
        "",
        "# Model card",
        "",
        markdown_cell(report.headline.trained),
        "",
        "## Uses",
        "",
        f"- Purpose: {_said(report, 'A3.purpose')}",
        f"- Intended: {_said(report, 'A3.intended_uses')}",
        f"- Out of scope: {_said(report, 'A3.out_of_scope')}",
        f"- Release context: {_said(report, 'A5.release_context')}",
        "",
        "## Privacy",
        "",
        *(f"- **FAIL**: {markdown_cell(text)}" for text in report.headline.failures),
        f"- {markdown_cell(report.headline.guarantee)}",
        f"- Unit: {_unit(report)}",
        f"- {markdown_cell(report.headline.strongest_attack)}",
        f"- Not covered: {_said(report, 'B4.unprotected')}",
        f"- Missing: {markdown_cell(report.headline.missing)}",
        "",
        "## Training data",
        "",
        f"- Source: {_said(report, 'B1.source')}",
        f"- Legal basis or licence: {_said(report, 'B1.legal_basis')}",
        f"- Images: {_said(report, 'B1.num_images')} at {report.value('B1.num_sites')} sites",
        "",
        "## Evaluation",
        "",
        _quality(quality),
        ""
        if best is None
        else f"\nStrongest attack: {markdown_cell(best['name'])}, {best['access']}.",
        "",
        "## Limits",
        "",
        *(f"- {markdown_cell(text)}" for text in report.value("G1.limits")),
        "",
        f"Every value with its source: report.json (id {report.id}), signed.",
        "",
    ]
    return "\n".join(lines)


def _said(report: Report, id: str) -> str:
    value = report.value(id)
    if value is None:
        return "not declared" if id[0] in "AB" else "not measured"
    if isinstance(value, list):
        return "; ".join(markdown_cell(each) for each in value)
    return markdown_cell(f"{value:,}" if isinstance(value, int) else value)


def _unit(report: Report) -> str:
    unit = report.value("B3.unit")
    return (
        markdown_cell(f"{unit['unit']} ({unit['adjacency']})")
        if report.value("C2.epsilon")
        else "none"
    )


def _quality(quality: dict[str, Any] | None) -> str:
    if quality is None:
        return "The quality of samples was not measured."
    columns = ("kid", "frechet", "precision", "recall")
    rows = [f"| images | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in quality["rows"].items():
        cells = [f"{row[each]:.4g}" if row.get(each) is not None else "-" for each in columns]
        rows.append(f"| {markdown_cell(name)} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"Features: {markdown_cell(quality['extractor'])}."])
