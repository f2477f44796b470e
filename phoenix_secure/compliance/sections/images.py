"""B: whose images, how many, what was done to them, and the unit that is protected."""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.facts import AUDIT, Facts
from phoenix_secure.evidence import Event

__all__ = ["answer_images", "band", "num_images"]


def num_images(facts: Facts) -> int | None:
    """Training images of all sites together, where the rounds told it."""
    counts = [each.facts.get("num_images") for each in facts.ledger.of(Event.CHECKPOINT)]
    known = [count for count in counts if isinstance(count, int) and count > 0]
    return max(known) if known else None


def band(count: int) -> str:
    """A count for the public: its order of magnitude.

    >>> band(4000)
    '1,000 to 9,999'
    """
    if count < 100:
        return "below 100"
    low = 10 ** (len(str(count)) - 1)
    return f"{low:,} to {10 * low - 1:,}"


def answer_images(answers: Answers) -> None:
    """Counts from the ledger, keyed digests from the sites' ledgers, the rest as declared."""
    facts = answers.facts
    config = facts.at(facts.last(Event.CONFIG))
    settings, data = facts.settings, facts.settings.get("data", {})
    answers.derived(
        "B1.data_set",
        data.get("name") or "the sites' own images",
        evidence=config,
    )
    answers.measured("B1.num_sites", len(facts.sites), unit="sites", evidence=_started(facts))
    _answer_counts(answers)
    _answer_fingerprints(answers)
    for name in (
        "source",
        "legal_basis",
        "categories",
        "special_categories",
        "special_basis",
        "research_safeguards",
        "subjects",
        "retention",
        "transfers",
    ):
        answers.declared(f"B1.{name}", f"/data/{name}")
    training, privacy = settings.get("training", {}), settings.get("privacy", {})
    answers.derived(
        "B2.training_input",
        {
            "image_size": data.get("image_size") or "as the images are",
            "channels": data.get("channels") or "as the images are",
            "horizontal_flip": training.get("horizontal_flip"),
            "augmentations": privacy.get("augmentations"),
            "held_out_fraction": data.get("held_out"),
            "reference_fraction": data.get("reference"),
            **{name: data[name] for name in ("part", "window") if data.get(name) is not None},
        },
        evidence=config,
    )
    answers.declared("B2.preprocessing", "/data/preprocessing")
    _answer_duplicates(answers)
    answers.derived(
        "B3.unit",
        {
            "unit": facts.guarantee.get("unit", "none"),
            "adjacency": facts.guarantee.get("adjacency", ""),
            "unit by the ledger's settings": facts.planned_unit,
        },
        note=None
        if facts.guarantee
        else "no unit is protected by differential privacy in this run",
        evidence=config,
    )
    answers.declared(
        "B3.several_images_per_person",
        "/data/several_images_per_person",
        note="Epsilon of the unit 'record' is for one image; it grows with a person's images. That "
        "of the unit 'group' is for all images of one person at one site.",
    )
    answers.declared("B3.persons_at_several_sites", "/data/persons_at_several_sites")
    answers.derived("B4.unprotected", _unprotected(facts), evidence=config)


def _answer_counts(answers: Answers) -> None:
    facts, count = answers.facts, num_images(answers.facts)
    if count is None:
        answers.missing(
            "B1.num_images",
            "the rounds did not tell it (privacy.release_metrics is off): the sites know",
        )
    else:
        answers.measured(
            "B1.num_images",
            count if facts.is_confidential else band(count),
            unit="images",
            evidence=facts.at(facts.last(Event.CHECKPOINT)),
        )


def _answer_fingerprints(answers: Answers) -> None:
    facts = answers.facts
    names = facts.files.names("sites/*/privacy.jsonl")
    digests = {
        name.split("/")[1]: sorted({str(line.get("data")) for line in facts.files.lines(name)})
        for name in names
    }
    if not digests:
        answers.missing(
            "B1.fingerprint",
            "a site keeps a keyed digest of its images when differential privacy is on; this run "
            "has none. Plain hashes of small images could be guessed and are never printed",
        )
        return
    value: Any = digests
    if not facts.is_confidential:
        value = sorted(digest for found in digests.values() for digest in found)
    answers.measured(
        "B1.fingerprint",
        value,
        note="keyed by each site's own secret: only the site can check it",
        evidence=facts.site_ledgers(),
    )


def _answer_duplicates(answers: Answers) -> None:
    facts = answers.facts
    found = None if facts.audit is None else facts.audit.target.get("duplicates left out")
    if found is None:
        answers.missing("B2.duplicates", "an audit of the run counts them")
    else:
        answers.measured(
            "B2.duplicates",
            found if facts.is_confidential else ("none" if found == "0" else "some"),
            note="repeated images are memorised more easily",
            evidence=facts.where(AUDIT, "/target"),
        )


def _unprotected(facts: Facts) -> list[str]:
    """Everything that left the sites outside a guarantee."""
    if not facts.guarantee:
        return ["everything: no guarantee covers what left the sites"]
    found = [str(each) for each in facts.guarantee.get("not_protected", [])]
    if facts.settings.get("privacy", {}).get("release_metrics"):
        found.append("sums of losses and numbers of images (privacy.release_metrics is on)")
    if facts.quality:
        found.append(
            "the quality of samples, computed against held-out and reference images without noise"
        )
    if facts.audit is not None:
        found.append("the audit's figures, computed from members without noise")
    if facts.settings.get("sharing", {}).get("source") not in (None, "none"):
        found.append("the shared images that all sites saw")
    return found


def _started(facts: Facts) -> Any:
    return facts.at(facts.last(Event.ROUND_STARTED))
