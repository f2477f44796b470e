"""The settings, and the values, that something unknown may be meant for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from phoenix_secure.config.other_names import known_as, known_value

__all__ = ["field_at", "inner_section", "nearest_value", "settings_called"]

_LONGEST = 100  # characters of a name that are compared
_NEAR, _NEAR_INSIDE = 0.75, 0.4  # of difflib: among all settings, and in the section that was named


def settings_called(name: str, *, of: type[BaseModel]) -> list[str]:
    """The dotted names of the settings that ``name`` may be meant for, the likeliest first.

    By another program's name for it, its own in another section or without one, with other capitals
    or separators, or spelt almost so. A name of a section alone leads to that section.
    """
    section, _, key = name.strip("-")[:_LONGEST].rpartition(".")
    names = list(_names(of))
    if exact := [each for each in names if _plain(each) == _plain(f"{section}.{key}".lstrip("."))]:
        return exact
    other = known_as(f"{section}.{key}") or known_as(key)
    if other in names:
        return [other]
    called = [each for each in names if _plain(each.rpartition(".")[2]) == _plain(key)]
    inside = [each for each in called if section and _plain(each).startswith(_plain(section))]
    if called:
        return inside or called
    near = _near(key, [each for each in names if each.startswith(f"{section}.")], _NEAR_INSIDE)
    return near or _near(key, names, _NEAR)


def nearest_value(given: str, allowed: Sequence[str]) -> str | None:
    """The one of ``allowed`` that ``given`` may be meant for."""
    plain = {_plain(each): each for each in allowed}
    if (other := known_value(given)) in allowed:
        return other
    close = difflib.get_close_matches(_plain(given[:_LONGEST]), plain, n=1)
    return plain[close[0]] if close else None


def field_at(keys: Sequence[str], *, of: type[BaseModel]) -> FieldInfo | None:
    """The field that the dotted name ``keys`` leads to; None where there is none."""
    model: type[BaseModel] | None = of
    for key in keys[:-1]:
        field = None if model is None else model.model_fields.get(key)
        model = None if field is None else inner_section(field)
    return None if model is None else model.model_fields.get(keys[-1])


def inner_section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that ``field`` holds; None for a setting."""
    for each in (field.annotation, *get_args(field.annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _names(root: type[BaseModel]) -> Iterator[str]:
    for name, field in root.model_fields.items():
        yield name
        inner = inner_section(field)
        yield from () if inner is None else (f"{name}.{key}" for key in inner.model_fields)


def _near(key: str, names: Sequence[str], cutoff: float) -> list[str]:
    ends = {_plain(each.rpartition(".")[2]): each for each in names}
    close = difflib.get_close_matches(_plain(key), ends, n=1, cutoff=cutoff)
    return [ends[each] for each in close]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
