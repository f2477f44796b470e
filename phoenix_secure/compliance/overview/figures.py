"""The figures that decide, as a laboratory prints them."""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_secure.compliance.schema import Report

__all__ = ["Figure", "figures"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure as a laboratory prints it."""

    name: str
    result: str
    reference: str
    comment: str
    field: str


def figures(report: Report) -> list[Figure]:
    """The figures that decide: result, reference range, comment."""
    found = []
    epsilon = report.value("C2.epsilon")
    if epsilon is not None:
        found.append(
            Figure(
                name=f"epsilon, {report.field('C2.epsilon').unit}",
                result=f"{epsilon:.4g}",
                reference="below 1: strong; 10 and more: may mean nothing",
                comment=report.field("C2.epsilon").note or "",
                field="C2.epsilon",
            )
        )
    strongest, verdict = report.value("E4.strongest"), report.value("E4.verdict")
    if strongest is not None:
        auc = strongest["auc"]
        seen = verdict and verdict["detectable_auc"]
        found.append(
            Figure(
                name=f"AUC of the strongest attack, {strongest['name']}",
                result=f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
                reference="0.5: guessing; 1: always right",
                comment="an AUC below "
                + (f"{seen:.3f} would have stayed unseen" if seen else "an unknown bound")
                + (f"; verdict: {verdict['outcome']}" if verdict else ""),
                field="E4.strongest",
            )
        )
    copying = report.value("E5.copying")
    if copying is not None:
        found.append(
            Figure(
                name="samples as near to a training image as a copy",
                result=f"{copying['extracted']} of {copying['num_samples']:,}",
                reference=f"{copying['extracted_control']} as near to an image never trained on",
                comment="more than the reference: look at each"
                if copying["extracted"] > copying["extracted_control"]
                else "no more than the reference: as by chance",
                field="E5.copying",
            )
        )
    quality = report.value("F1.quality") or {}
    rows = quality.get("rows") or {}
    kid = {name: row.get("kid") for name, row in rows.items()}
    if kid.get("generated") is not None:
        reference = [f"{name} {each:.3g}" for name, each in kid.items() if name != "generated"]
        found.append(
            Figure(
                name="KID of the samples (distance from real images)",
                result=f"{kid['generated']:.3g}",
                reference="; ".join(part for part in reference if not part.endswith(" None")),
                comment=f"lower is better{_counted(quality.get('num_images'))}",
                field="F1.quality",
            )
        )
    return found


def _counted(num_images: int | None) -> str:
    return "" if num_images is None else f"; from {num_images:,} images of each kind"
