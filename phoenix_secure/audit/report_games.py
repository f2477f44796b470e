"""Parts of the audit's report on games other than the membership of single images."""

from __future__ import annotations

from phoenix_secure.audit.plan import Part

__all__ = [
    "DatasetInferenceReport",
    "ExtractionReport",
    "InversionReport",
    "InversionRow",
    "SuspectReport",
]


class SuspectReport(Part):
    """One set of images: was it used?

    p_value:   of "its records score as unseen ones do".
    blind_p:   the same test on pixels, without the model: small where the sets differ already.
    """

    suspect: str
    num_suspect: int
    num_unseen: int
    p_value: float | None
    blind_p: float | None
    reason: str | None


class DatasetInferenceReport(Part):
    """Dataset inference of the evaluated members, together and site by site.

    suspects:   all members first; single sites in the confidential edition, against unseen images
                of their classes; their p-values are not adjusted for one another.
    p_adjusted: of the first, over all attacks and tests of the audit (Holm).
    placebo_p:  the same test among non-members alone.
    """

    suspects: tuple[SuspectReport, ...]
    p_adjusted: float | None = None
    placebo_p: float | None
    queries_per_record: float
    seconds: float


class ExtractionReport(Part):
    """Generate and filter: samples that are near copies of members, beside a control.

    num_claims:     samples that the attacker, who sees no member, picks as the likeliest copies.
    rate_high:      one-sided 95 % bound on a sample's chance of being a copy: 3 / samples where
                    none is.
    p_value:        that so many more members than equally many unseen images have copies, by
                    chance; p_adjusted over all attacks and tests of the audit (Holm).
    """

    num_samples: int
    num_members: int
    num_control: int
    extracted: int
    extracted_control: int
    num_claims: int
    claims_right: int
    claims_right_control: int
    rate_high: float
    p_value: float
    p_adjusted: float | None = None
    seconds: float


class InversionRow(Part):
    """Reconstructions from one view of the updates, compared with members and with unseen images.

    psnr, psnr_control:  median over reconstructions of the nearest image's PSNR in dB.
    recovered:           reconstructions above 30 dB.
    p_value:             exchanging each member with its unseen partner leaves as good a match.
    """

    view: str
    num_reconstructions: int
    num_candidates: int
    psnr: float
    psnr_control: float
    recovered: int
    recovered_control: int
    p_value: float
    evaluations: int
    seconds: float


class InversionReport(Part):
    """What a server could reconstruct, with and without secure aggregation."""

    round_number: int
    secure_aggregation: str  # what the run itself used
    rows: tuple[InversionRow, ...]
    seconds: float
