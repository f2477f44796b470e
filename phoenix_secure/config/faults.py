"""Says in one line what is wrong with outside input, whichever section it is for."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from phoenix_secure.config.meant import field_at, inner_section, nearest_value, settings_called
from phoenix_secure.config.other_names import SWEEP_KEYS
from phoenix_secure.yaml_text import shorten

__all__ = ["explain"]

_UNIT = re.compile(r"^\[[^\]]*\] ")  # before the sentence of a setting


def explain(error: ValidationError, *, of: type[BaseModel], written: str = "") -> str:
    """The first fault: dotted name, what is wrong, the value in at most 200 characters, and the
    nearest valid name or value for an unknown one.

    of       the section that the input was for
    written  the dotted name as it was given, where that is known to be longer than the fault's
    """
    first = error.errors(include_url=False, include_context=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    location = [part for part in first["loc"] if isinstance(part, str)]
    if first["type"] == "extra_forbidden":
        location = written.split(".") if written else location
        return f"unknown setting {_shown('.'.join(location))}: {_hint(location, of)}{more}"
    # What pydantic adds for the kinds that a value may have is no part of the name.
    while len(location) > 1 and field_at(location, of=of) is None:
        location.pop()
    name = _shown(".".join(location)) or "settings"
    message = _message(first["type"], first["msg"], first["input"], location=location, of=of)
    given = "" if isinstance(first["input"], dict) else f" (got {shorten(first['input'])})"
    return f"{name}: {_shown(message, 400)}{given}{more}"


def _message(kind: str, text: str, given: Any, *, location: list[str], of: type[BaseModel]) -> str:
    """What is wrong, in the words of the settings and not of the library that checks them."""
    field = field_at(location, of=of) if location else None
    section = None if field is None else inner_section(field)
    if kind.startswith("date"):
        return "a date looks like 2027-01-31"
    if kind == "tuple_type":
        return "a list belongs here, such as [one, two]"
    if kind == "model_type" and field is not None and section not in (None, field.annotation):
        return f"an entry is written {{{', '.join(f'{key}: ...' for key in section.model_fields)}}}"
    if kind == "model_type" and section is not None:
        first = next(iter(section.model_fields))
        return f"this is a section: set {'.'.join([*location, first])} or another setting in it"
    if kind == "string_pattern_mismatch" and field is not None and field.description:
        return f"expected {_UNIT.sub('', field.description).rstrip('.')}"
    message = text.removeprefix("Value error, ")
    if isinstance(given, str) and message.lower().startswith("input should be '"):
        near = nearest_value(given, re.findall(r"'([^']*)'", message))
        return message if near is None else f"{message}; did you mean {near}?"
    return message


def _hint(location: list[str], root: type[BaseModel]) -> str:
    """What an unknown setting was meant to be: by others' names for it, in another section, or
    spelt almost so."""
    key = location[-1]
    section = field_at(location[:-1], of=root) if len(location) > 1 else None
    inner = root if section is None else inner_section(section) or root
    if len(location) == 1 and key in SWEEP_KEYS and key not in inner.model_fields:
        return "this file is a sweep: use `phoenix-secure sweep`"
    if "." in key and field_at([*location[:-1], *key.split(".")], of=root) is not None:
        above, _, below = key.rpartition(".")
        return f"in a file, write `{below}:` below `{above}:`"
    found = settings_called(".".join(location), of=root)
    if found:
        return f"did you mean {' or '.join(found[:3])}?"
    return f"valid here: {', '.join(inner.model_fields)}"


def _shown(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
