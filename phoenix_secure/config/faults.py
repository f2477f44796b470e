"""Says in one line what is wrong with outside input, whichever section it is for."""

from __future__ import annotations

import difflib
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from phoenix_secure.config.other_names import SWEEP_KEYS, known_as
from phoenix_secure.yaml_text import shorten

__all__ = ["explain", "field_at", "setting_called"]


def explain(error: ValidationError, *, of: type[BaseModel]) -> str:
    """The first fault: dotted name, what is wrong, the value in at most 200 characters, and the
    nearest valid name for an unknown one.

    of      the section that the input was for
    """
    first = error.errors(include_url=False, include_context=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    location = [part for part in first["loc"] if isinstance(part, str)]
    name = _shown(".".join(location)) or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name}: {_hint(location, of)}{more}"
    message = _shown(first["msg"].removeprefix("Value error, "), 400)
    given = "" if isinstance(first["input"], dict) else f" (got {shorten(first['input'])})"
    return f"{name}: {message}{given}{more}"


def _hint(location: list[str], root: type[BaseModel]) -> str:
    """What an unknown setting was meant to be: by others' names for it, in another section, or
    spelt almost so."""
    key, valid = location[-1][:100], list(_section(location[:-1], root).model_fields)
    if len(location) == 1 and key in SWEEP_KEYS and key not in valid:
        return "this file is a sweep: use `phoenix-secure sweep`"
    elsewhere = _sections_with(key, root)
    other = known_as(key)
    if other is not None and field_at(other.split("."), of=root) is not None:
        return f"did you mean {other}?"
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.4)
    if close:
        return f"did you mean {'.'.join([*location[:-1], *close])}?"
    return f"valid here: {', '.join(valid)}"


def setting_called(name: str, *, of: type[BaseModel]) -> str | None:
    """The dotted name of the one setting that ``name`` may be meant for: by others' name for it, or
    its own without the section; None where nothing or too much fits."""
    key = name.strip("-").replace("-", "_")[:100]
    other = known_as(key)
    if other is not None and field_at(other.split("."), of=of) is not None:
        return other
    found = _sections_with(key, of)
    return found[0] if len(found) == 1 else None


def _sections_with(key: str, root: type[BaseModel]) -> list[str]:
    """The dotted names of the settings called ``key``."""
    return [
        f"{section}.{key}" for section in root.model_fields if field_at([section, key], of=root)
    ]


def field_at(keys: list[str], *, of: type[BaseModel]) -> FieldInfo | None:
    """The field that the dotted name ``keys`` leads to; None where there is none."""
    try:
        return _section(keys[:-1], of).model_fields.get(keys[-1])
    except KeyError:
        return None


def _section(location: list[str], root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for key in location:
        field = model.model_fields[key]
        candidates = (field.annotation, *get_args(field.annotation))
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            raise KeyError(key)
        model = found[0]
    return model


def _shown(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
