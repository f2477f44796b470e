"""The report's sections on games other than single images, as Markdown."""

from __future__ import annotations

from phoenix_secure.audit.report import AuditReport
from phoenix_secure.audit.report_games import (
    DatasetInferenceReport,
    ExtractionReport,
    InversionReport,
)
from phoenix_secure.printed_text import markdown_cell

__all__ = ["games_sections", "p_text"]


def games_sections(report: AuditReport) -> list[str]:
    """Dataset inference, extraction and gradient inversion, each with its control."""
    return [
        *_dataset_inference(report.dataset_inference),
        *_extraction(report.extraction),
        *_inversion(report.inversion),
    ]


def p_text(value: float | None) -> str:
    """A p-value for people, None included."""
    return "not estimable" if value is None else f"{value:.2g}"


def _dataset_inference(found: DatasetInferenceReport | None) -> list[str]:
    if found is None:
        return []
    rows = [
        f"| {markdown_cell(one.suspect)} | {one.num_suspect} | {one.num_unseen} | "
        f"{p_text(one.p_value)} | {p_text(one.blind_p)} |"
        for one in found.suspects
    ]
    return [
        "## Was the set used? (dataset inference)",
        "",
        "The attacker holds a whole set of images and as many unseen ones of the same kind, asks "
        "the denoiser, and says whether the set was trained on. A site is compared with unseen "
        "images of its classes; where the same test on pixels, without the model, has a small p, "
        "too, the sets differ by themselves. Single sites' p are not adjusted for one another.",
        "",
        "| set | images | unseen | p | p of pixels |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"- all members, adjusted over all tests of this audit: p {p_text(found.p_adjusted)}",
        f"- placebo, unseen images against other unseen ones: p {p_text(found.placebo_p)}",
        f"- {found.queries_per_record:.0f} queries an image, {found.seconds:.1f} s",
        "",
    ]


def _extraction(found: ExtractionReport | None) -> list[str]:
    if found is None:
        return []
    return [
        "## Extraction (generate and filter)",
        "",
        "The attacker holds the samples alone, and claims that some repeat training images.",
        "",
        f"- {found.num_samples} samples: near copies of {found.extracted} of {found.num_members} "
        f"members; control, of {found.num_control} unseen images: {found.extracted_control} "
        f"(p {p_text(found.p_value)}, adjusted {p_text(found.p_adjusted)})",
        f"- of its {found.num_claims} claims {found.claims_right} are copies of members, and "
        f"{found.claims_right_control} of unseen images",
        f"- a sample is a copy of a member with a chance of at most {found.rate_high:.2%} (95 %); "
        "more samples find more",
        f"- {found.seconds:.1f} s",
        "",
    ]


def _inversion(found: InversionReport | None) -> list[str]:
    if found is None:
        return []
    rows = [
        f"| {row.view} | {row.num_reconstructions} of {row.num_candidates} | {row.psnr:.1f} | "
        f"{row.psnr_control:.1f} | {row.recovered} | {row.recovered_control} | {row.p_value:.2g} | "
        f"{row.evaluations} | {row.seconds:.0f} |"
        for row in found.rows
    ]
    return [
        "## What a server could reconstruct (gradient inversion)",
        "",
        f"Round {found.round_number} trained again. Each member has an unseen partner of its "
        "class; p is the chance of as good a match had the two been exchanged. Median PSNR in dB "
        "of the nearest image; recovered: above 30 dB. The run used secure aggregation: "
        f"{found.secure_aggregation}. This does not enter the verdict.",
        "",
        "| the server sees | images | PSNR | control | recovered | control | p | gradients | s |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
