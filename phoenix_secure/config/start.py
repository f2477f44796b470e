"""The model that a run starts from, as it was found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from phoenix_secure.config.section import Section

__all__ = ["EarlierGuarantee", "StartConfig"]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class EarlierGuarantee(Section):
    """What an earlier run promised the images that it was trained on."""

    unit: Literal["none", "record", "group", "site"] = Field(
        description="[name] none: that run was not private."
    )
    epsilon: float | None = Field(
        None, ge=0, description="[1] That run's epsilon; empty without a guarantee."
    )
    delta: float | None = Field(None, gt=0, lt=1, description="[1] Its delta.")
    events: tuple[str, ...] = Field(
        (),
        max_length=100,
        exclude_if=lambda events: not events,
        description="[JSON] Its privacy events, which privacy.with_start composes with the run's.",
    )


class StartConfig(Section):
    """The model behind ``model.init_from``; written by the run itself, so that a plan holds it.

    Every party checks the hash before it trains from the model.
    """

    sha256: Sha256 = Field(description="[hex] SHA-256 over the network's form and weights.")
    origin: Literal["run", "folder", "hub"] = Field(
        description="[name] run: of this software. folder, hub: from elsewhere."
    )
    earlier: tuple[EarlierGuarantee, ...] = Field(
        (),
        max_length=100,
        description="[guarantees] Of the runs that the model comes from, oldest first.",
    )
