"""Strategies for sites whose images differ: shared images, personal layers, filtering."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from phoenix_secure.config.section import Extensible, Section
from phoenix_secure.extensions import ExtensionPoint

__all__ = ["ExchangeConfig", "FilteringConfig", "SharingConfig"]

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class SharingConfig(Section):
    """A set of images G that everybody may see: warm-up at the server, a share at every site.

    Source of alpha and beta: Zhao et al. (2018), section 4, arXiv:1806.00582.
    """

    source: Literal["none", "public", "generator", "raw-private"] = Field(
        "none",
        description="[name] Where G comes from: a public data set, samples of an earlier run's "
        "model, or the sites' own images (no privacy at all for those).",
    )
    name: str | None = Field(
        None, description="[name] Public data set (source public); as data.name."
    )
    path: str | None = Field(
        None,
        description="[path] Where a set that you bring lies (source public), or the run folder of "
        "the generator (source generator).",
    )
    part: Literal["train", "test"] = Field(
        "train", description="[name] Published part of the public set; test where data uses train."
    )
    beta: float = Field(0.05, gt=0, le=1, description="[fraction] |G| over the sites' images |D|.")
    num_images: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="[images] |G| itself, in place of beta; needed in a deployment, where nobody "
        "knows |D|.",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="[fraction] Random share of G mixed into each site's images."
    )
    warmup_steps: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="[steps] Training of the first global model on G, at the server.",
    )
    accept_raw_private_images: bool = Field(
        False,
        description="[flag] Hand private images to every site, or samples of a generator trained "
        "without differential privacy. The run and its reports say so.",
    )

    @model_validator(mode="after")
    def _source_is_whole(self) -> Self:
        if self.source == "public" and not self.name:
            raise ValueError("source public needs the data set: set sharing.name")
        if self.source == "generator" and not self.path:
            raise ValueError("source generator needs the run folder: set sharing.path")
        if self.source == "raw-private" and not self.accept_raw_private_images:
            raise ValueError(
                "source raw-private gives private images to every site: use source public or "
                "generator, or set sharing.accept_raw_private_images=true"
            )
        if self.source in ("generator", "raw-private") and self.name:
            raise ValueError(f"name is for source public: leave it out with {self.source}")
        return self


class ExchangeConfig(Section):
    """Which parameters travel, and which stay at a site."""

    personal: tuple[Pattern, ...] = Field(
        (),
        max_length=64,
        description="[patterns] Parameters that stay at the site: last-layers, norms, "
        "decoder-tail, encoder, middle, decoder, embeddings, or a name such as conv_out.*.",
    )
    upload: Literal["all", "alternate"] = Field(
        "all",
        description="[name] all, or the encoder's side in odd and the decoder in even rounds: half "
        "the bytes up.",
    )
    error_feedback: bool = Field(
        False,
        description="[flag] Add what rounding left out of an answer to the next one; for narrow "
        "words (secure_aggregation.word_bits = 16, half the bytes of 32).",
    )
    strategy: Annotated[str, Extensible(ExtensionPoint.HETEROGENEITY_STRATEGY, ())] | None = Field(
        None,
        exclude_if=lambda name: name is None,
        description="[name] Installed heterogeneity strategy that changes each update before it is "
        "clipped, noised and masked.",
    )


class FilteringConfig(Section):
    """A site evaluates its own model's samples and stays out of rounds while they are poor."""

    threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="[share] A score below this is a failure, one equal to it is not; 0 is off.",
    )
    metric: Literal["precision", "recall"] = Field(
        "precision", description="[name] The score (Kynkaanniemi 2019)."
    )
    max_failures: int = Field(
        2,
        ge=1,
        le=1000,
        description="[failures] So many in a row and the site refuses; one pass readmits it.",
    )
    first_round: int = Field(
        5, ge=1, le=100_000, description="[rounds] No site evaluates itself earlier."
    )
    every_rounds: int = Field(1, ge=1, le=100_000, description="[rounds] Evaluate every so many.")
    num_images: int = Field(
        200,
        ge=10,
        le=100_000,
        description="[images] Samples evaluated and real images beside them.",
    )
    num_steps: int = Field(
        20, ge=1, le=4000, description="[steps] Network evaluations for a sample."
    )
    nearest_k: int = Field(3, ge=1, le=100, description="[neighbours] k of the metric.")
    reference: Literal["own", "shared"] = Field(
        "own", description="[name] Real images: kept back at the site, or the shared images G."
    )
    held_back: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="[fraction] Of a site's images, not trained on (reference own).",
    )

    @property
    def is_on(self) -> bool:
        """Whether sites evaluate themselves."""
        return self.threshold > 0

    def is_due(self, round_number: int) -> bool:
        """Whether sites evaluate themselves in this round."""
        past = round_number - self.first_round
        return self.is_on and past >= 0 and past % self.every_rounds == 0
