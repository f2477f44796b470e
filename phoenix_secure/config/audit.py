"""Attacks that a run lets loose on itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from phoenix_secure.config.section import Section

__all__ = ["AuditConfig"]


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
