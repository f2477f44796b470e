"""A: what was trained, for what, and who answers for it."""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.evidence import Event

__all__ = ["answer_identity"]


def answer_identity(answers: Answers) -> None:
    """Versions, architecture, files; purpose and parties as declared."""
    facts = answers.facts
    answers.measured("A1.versions", facts.versions, evidence=facts.where("versions.json"))
    model, diffusion = facts.settings.get("model", {}), facts.settings.get("diffusion", {})
    release = facts.settings.get("release", {})
    if release:
        answers.derived(
            "A2.architecture",
            {
                "release": release,
                "network": "a generator fitted to one noised sum of features"
                if release.get("then") == "none"
                else "a U-Net trained on images of a generator fitted to one noised sum alone",
                "format": "safetensors and JSON"
                if release.get("then") == "none"
                else "diffusers pipeline folder, weights as safetensors",
            },
            evidence=facts.at(facts.last(Event.CONFIG)),
        )
    else:
        _answer_architecture(answers, model=model, diffusion=diffusion)
    _answer_files(answers)
    answers.declared("A3.purpose", "/purpose/text")
    for name in ("intended_uses", "out_of_scope", "recipients"):
        answers.declared(f"A3.{name}", f"/purpose/{name}")
    for name in (
        "controllers",
        "arrangement",
        "processors",
        "processor_terms",
        "dpo",
        "signatory",
    ):
        answers.declared(f"A4.{name}", f"/parties/{name}")
    answers.declared(
        "A5.release_context",
        "/release_context",
        note="Decides how much testing is needed: open weights need the most.",
    )
    for name in ("region", "sector"):
        answers.declared(f"A6.{name}", f"/data/{name}")


def _answer_architecture(
    answers: Answers, *, model: dict[str, Any], diffusion: dict[str, Any]
) -> None:
    facts = answers.facts
    answers.derived(
        "A2.architecture",
        {
            "network": "U-Net (diffusers UNet2DModel)",
            "preset": model.get("preset"),
            "block_channels": model.get("block_channels"),
            "layers_per_block": model.get("layers_per_block"),
            "attention": model.get("attention"),
            "class_conditional": model.get("class_conditional"),
            "prediction": diffusion.get("prediction"),
            "schedule": diffusion.get("schedule"),
            "num_timesteps": diffusion.get("num_timesteps"),
            "format": "diffusers pipeline folder, weights as safetensors",
        },
        evidence=facts.at(facts.last(Event.CONFIG)),
    )


def _answer_files(answers: Answers) -> None:
    facts = answers.facts
    checkpoint = facts.last(Event.CHECKPOINT)
    if checkpoint is None:
        answers.missing("A2.num_parameters", "the ledger holds no checkpoint")
    else:
        answers.measured(
            "A2.num_parameters",
            checkpoint.facts.get("num_parameters"),
            unit="parameters",
            evidence=facts.at(checkpoint),
        )
    exported = facts.last(Event.EXPORTED)
    folder, files = (exported.facts["folder"], exported.facts["files"]) if exported else ("", {})
    answers.measured(
        "A2.files",
        {f"{folder}/{name}": digest for name, digest in files.items()},
        unit="SHA-256",
        evidence=facts.at(exported),
    )
