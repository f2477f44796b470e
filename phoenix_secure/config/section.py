"""The base class of all configuration sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import core_schema

from phoenix_secure.config.scalars import refuse_other_kind
from phoenix_secure.extensions import ExtensionPoint, extension_names, missing
from phoenix_secure.yaml_text import shorten

__all__ = ["Extensible", "Fraction", "Section", "Typed", "YamlSwitch"]

Fraction = Annotated[float, Field(ge=0, le=0.5)]


def _on_or_off(value: object) -> object:
    text = str(value).lower() if isinstance(value, str | bool) else ""
    return {**dict.fromkeys(_ON, "on"), **dict.fromkeys(_OFF, "off")}.get(text, value)


# All the words that YAML 1.1 takes for a flag.
_ON, _OFF = ("on", "true", "yes"), ("off", "false", "no")
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
            raise ValueError(missing(self.point, shorten(value)[1:-1]))
        what = self.point.value.replace("_", " ")
        own = ", ".join(extension_names(self.point)) or "none is there"
        listed = ", ".join(map(repr, self.names))
        raise ValueError(f"input should be {listed}, or an installed {what} ({own})")


class Typed(BaseModel):
    """The base of whatever is read from YAML: no value silently becomes one of another kind."""

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_own_kind(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if YamlSwitch not in field.metadata:
            refuse_other_kind(value, field.annotation)
        return value


class Section(Typed):
    """The base of all sections: frozen, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
