"""Attacks that a run lets loose on itself."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from phoenix_secure.config.section import Section

__all__ = ["AuditConfig"]

_BINS, _MOST, _LEAST = 2048, 500, 20


class AuditConfig(Section):
    """The audit at the end of a run, and the canaries that bound epsilon from below."""

    profile: Literal["none", "smoke", "fast"] = Field(
        "none",
        description="[name] Audit the finished model: smoke takes half a minute, fast two minutes.",
    )
    canaries: int = Field(
        0,
        ge=0,
        le=100_000,
        description="[images] Artificial images, each planted in a random site's training images "
        "with probability 1/2. They cost some quality and let an audit bound epsilon.",
    )
    # Unwritten at their defaults: plans and run folders from before them keep their bytes.
    at_sites: bool = Field(
        False,
        exclude_if=lambda is_on: not is_on,
        description="[flag] After the last round every site attacks the final model with its own "
        "members and held-out images, and the federation learns pooled histograms of the scores "
        "(deployment). Each site's policy must allow it.",
    )
    bins: int = Field(
        _BINS,
        ge=8,
        le=8192,
        exclude_if=lambda bins: bins == _BINS,
        description="[bins] Of each histogram of scores (at_sites), evenly over the logarithm.",
    )
    max_images: int = Field(
        _MOST,
        ge=20,
        le=1000,
        exclude_if=lambda most: most == _MOST,
        description="[images] Most members, and as many held-out images, that one site attacks "
        "(at_sites); persons, where data.group tells them apart.",
    )
    min_images: int = Field(
        _LEAST,
        ge=20,
        le=1000,
        exclude_if=lambda least: least == _LEAST,
        description="[images] Members, and held-out images, that every site must have before any "
        "count is asked for; of each class, before counts are by class (at_sites).",
    )

    @model_validator(mode="after")
    def _fewest_within_most(self) -> Self:
        if self.min_images > self.max_images:
            raise ValueError(
                f"min_images = {self.min_images} exceeds max_images = {self.max_images}: lower it"
            )
        return self
