"""The base class of all configuration sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import core_schema

from phoenix_secure.extensions import ExtensionPoint, extension_names, missing

__all__ = ["Extensible", "Fraction", "Section", "YamlSwitch"]

Fraction = Annotated[float, Field(ge=0, le=0.5)]


def _on_or_off(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


# YAML 1.1 reads a bare on or off as true or false.
YamlSwitch = BeforeValidator(_on_or_off)


@dataclass(frozen=True, slots=True)
class Extensible:
    """A setting whose value is one of ``names`` or an extension of ``point``: ``Annotated[str,
    Extensible(...)]``."""

    point: ExtensionPoint
    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        named = [*self.names, f"an installed {self.point.value.replace('_', ' ')}"]
        return {**handler(schema), "examples": named}

    def _check(self, value: str) -> str:
        if value in self.names or value in extension_names(self.point):
            return value
        if not self.names:
            raise ValueError(missing(self.point, value))
        what = self.point.value.replace("_", " ")
        own = ", ".join(extension_names(self.point)) or "none is there"
        listed = ", ".join(map(repr, self.names))
        raise ValueError(f"input should be {listed}, or an installed {what} ({own})")


class Section(BaseModel):
    """The base of all sections: frozen, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
