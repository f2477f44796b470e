"""What each setting means, read off the settings themselves: none can be left out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from phoenix_secure.config.meant import settings_called
from phoenix_secure.config.run import RunConfig
from phoenix_secure.config.section import Section
from phoenix_secure.errors import ConfigError

__all__ = ["Explanation", "explained"]

_BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minItems": "{} values or more",
    "maxItems": "{} values or fewer",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One setting.

    default   as it would be written in a file
    allowed   names or bounds, in words; empty where any value of the type will do
    meaning   its unit in brackets, and a sentence
    """

    name: str
    default: str
    allowed: str
    meaning: str


def explained(name: str | None = None) -> list[Explanation]:
    """All settings, those of a section, or one, in the order of the files.

    Raises:     ConfigError naming the nearest setting.
    """
    found = list(_of_section(RunConfig, prefix=""))
    if name is None:
        return found
    chosen = [each for each in found if each.name == name or each.name.startswith(f"{name}.")]
    if chosen:
        return chosen
    names = {part for each in found for part in (each.name, each.name.partition(".")[0])}
    meant = settings_called(name, of=RunConfig)
    meant += difflib.get_close_matches(name, sorted(names), n=1)
    if not meant:
        raise ConfigError(f"there is no setting {name[:80]}: `config explain` shows all")
    raise ConfigError(f"there is no setting {name[:80]}: did you mean {meant[0]}?")


def _of_section(section: type[Section], *, prefix: str) -> Iterator[Explanation]:
    schema = section.model_json_schema()
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _of_section(inner, prefix=f"{prefix}{name}.")
        else:
            yield Explanation(
                name=f"{prefix}{name}",
                default=_default(field),
                allowed=_allowed(schema["properties"][name], schema.get("$defs", {})),
                meaning=field.description or "",
            )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, str):
        return value
    return "empty" if value is None else json.dumps(value)


def _allowed(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The bounds of a value in words, from its JSON Schema."""
    if "$ref" in schema:
        return _allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    parts = [_allowed(each, definitions) for each in schema.get("anyOf", ())]
    if "enum" in schema:
        parts.append(" | ".join(map(str, schema["enum"])))
    elif "const" in schema:
        parts.append(str(schema["const"]))
    elif "examples" in schema:
        parts.append(" | ".join(map(str, schema["examples"])))
    if "minItems" in schema and schema["minItems"] == schema.get("maxItems"):
        parts.append(f"{schema['minItems']} values")
        schema = {key: schema[key] for key in schema if not key.endswith("Items")}
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return " | ".join(part for part in [*parts, " and ".join(bounds)] if part)
