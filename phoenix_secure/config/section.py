"""The base class of all configuration sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Fraction", "Section", "YamlSwitch"]

Fraction = Annotated[float, Field(ge=0, le=0.5)]


def _on_or_off(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


# YAML 1.1 reads a bare on or off as true or false.
YamlSwitch = BeforeValidator(_on_or_off)


class Section(BaseModel):
    """The base of all sections: frozen, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
