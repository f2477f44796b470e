"""Refuses values that pydantic would turn into another kind without a word: true into 1, say."""

from __future__ import annotations

import datetime
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = ["is_text", "kinds_of", "refuse_other_kind"]

_SCALARS: tuple[type, ...] = (bool, int, float, str)


def kinds_of(annotation: Any) -> set[Any]:
    """The types that a value may have, at the top of ``annotation``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return set().union(*(kinds_of(each) for each in get_args(annotation)))
    if origin is Literal:
        return {type(each) for each in get_args(annotation)}
    return {origin or annotation}


def is_text(annotation: Any) -> bool:
    """Whether a value is text, and never a flag or a number."""
    kinds = kinds_of(annotation)
    return str in kinds and kinds <= {str, type(None)}


def refuse_other_kind(value: Any, annotation: Any) -> None:
    """Compare the scalars in ``value``, as YAML gave them, with what ``annotation`` asks for.

    Raises:     ValueError for a flag where a number or text belongs, and for a number where text
                belongs.
    """
    if isinstance(value, list | tuple):
        for each in _items(annotation):
            for part in value:
                refuse_other_kind(part, each)
        return
    kinds = kinds_of(annotation)
    if type(value) not in _SCALARS or not kinds <= {*_SCALARS, datetime.date, type(None)}:
        return
    if not isinstance(value, str) and kinds <= {datetime.date, type(None)}:
        raise ValueError("a date looks like 2027-01-31")
    if isinstance(value, bool) and bool not in kinds:
        if str in kinds:
            raise ValueError("true and false are flags in YAML: write the text in quotes")
        raise ValueError("a flag stands where a number belongs")
    if isinstance(value, int | float) and not kinds & {bool, int, float}:
        raise ValueError("YAML reads a number here: write the text in quotes")


def _items(annotation: Any) -> list[Any]:
    """What the lists that ``annotation`` allows hold; nothing where it allows several kinds."""
    if get_origin(annotation) is Annotated:
        return _items(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        found = [each for part in get_args(annotation) for each in _items(part)]
        return found if len(found) == 1 else []
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and arguments[1:] == (...,):
        return [arguments[0]]
    return [arguments[0]] if get_origin(annotation) is list else []
