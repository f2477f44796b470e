"""Samples, their quality, and files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phoenix_secure.config.section import Extensible, Section
from phoenix_secure.extensions import ExtensionPoint

__all__ = ["EvaluationConfig", "OutputConfig", "SamplingConfig"]


class SamplingConfig(Section):
    """The settings for sampling images from the model."""

    sampler: Literal["ddpm", "ddim", "dpm-solver"] = Field(
        "ddim",
        description="[name] Sampler (for EDM: ddim is Euler, dpm-solver its multistep solver).",
    )
    num_steps: int = Field(
        50, ge=1, le=4000, description="[steps] Network evaluations for an image."
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        le=50,
        description="[1] Classifier-free guidance; 1 is plain conditional sampling.",
    )
    batch_size: int = Field(128, ge=1, le=65536, description="[images] Images sampled at once.")
    # Both stay unwritten where they change nothing, so that plans keep their bytes.
    refine_steps: int = Field(
        0,
        ge=0,
        le=1_000_000,
        exclude_if=lambda steps: steps == 0,
        description="[steps] With model.network=classifier, of the release's generator, after the "
        "last round, towards images whose class the classifier reads; 0 is off.",
    )
    refine_weight: float = Field(
        0.01,
        gt=0,
        le=10,
        exclude_if=lambda weight: weight == 0.01,
        description="[1] Of what the classifier misreads, beside the generator's own averages, "
        "which these steps keep.",
    )


class EvaluationConfig(Section):
    """Quality of the samples, always beside held-out real images and noise."""

    every_rounds: int = Field(
        0, ge=0, description="[rounds] Evaluate every so many rounds; 0 only at the end."
    )
    num_images: int = Field(
        500, ge=0, le=1_000_000, description="[images] Images sampled and compared; 0 turns it off."
    )
    extractor: Literal["efficientnet-lite0", "inception"] = Field(
        "efficientnet-lite0", description="[name] Network whose features are compared."
    )
    inception_weights: str | None = Field(
        None,
        description="[path] TorchScript file inception-2015-12-05.pt, for extractor inception.",
    )

    metrics: tuple[Annotated[str, Extensible(ExtensionPoint.METRIC, ())], ...] = Field(
        (),
        exclude_if=lambda names: not names,
        description="[names] Installed metrics to evaluate beside the built-in ones.",
    )

    @model_validator(mode="after")
    def _weights_where_needed(self) -> Self:
        if self.extractor == "inception" and not self.inception_weights:
            raise ValueError(
                "extractor inception needs inception_weights, the path of the weights file"
            )
        return self


class OutputConfig(Section):
    """The files that a run writes besides its checkpoints."""

    samples_every_rounds: int = Field(
        5,
        ge=0,
        description="[rounds] Write a sample grid and curves every so many rounds; 0 at the end.",
    )
    num_samples: int = Field(64, ge=1, le=4096, description="[images] Images in a sample grid.")
    keep_checkpoints: int = Field(
        2, ge=1, le=100_000, description="[files] Newest checkpoints kept."
    )
    report: bool = Field(
        False,
        description="[flag] End a simulation with its signed report, in report/.",
    )
    unmarked_reason: str | None = Field(
        None,
        exclude_if=lambda reason: reason is None,
        min_length=10,
        max_length=300,
        description="[text] Why the pictures of this run carry no mark as synthetic; the ledger "
        "keeps it. Empty: they are marked (IPTC, and C2PA with the extra marks).",
    )
    trackers: tuple[Annotated[str, Extensible(ExtensionPoint.TRACKER, ())], ...] = Field(
        (),
        exclude_if=lambda names: not names,
        description="[names] Installed trackers, which get each line of metrics.jsonl.",
    )
    tensorboard: bool = Field(False, description="[flag] Also write TensorBoard events (an extra).")
    mlflow: str | None = Field(
        None,
        description="[address] Also log to this MLflow server (http://...) or database "
        "(sqlite:///runs/mlflow.db); an extra.",
    )
    wandb: bool = Field(
        False,
        exclude_if=lambda is_on: not is_on,
        description="[flag] Also write a Weights & Biases run, offline, in wandb/ (an extra).",
    )
