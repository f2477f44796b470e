"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that a hash names a value."""

from __future__ import annotations

import json
from typing import Any

import rfc8785

__all__ = ["NotCanonical", "canonical", "parse_canonical"]

_MAX_DEPTH = 64


class NotCanonical(ValueError):  # noqa: N818
    """The bytes are not the canonical form of any JSON value."""


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON.

    Raises:     ValueError for what JSON cannot hold exactly: NaN, infinities, integers beyond
                2^53 - 1, keys that are not text, other Python objects.
    Source:     RFC 8785.

    >>> canonical({"b": 1.0, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return rfc8785.dumps(value)


def parse_canonical(data: bytes) -> Any:
    """The value in ``data``.

    Guarantee:  ``canonical(parse_canonical(data)) == data``: spaces, reordered or repeated keys
                and other spellings of a number are refused.
    Raises:     NotCanonical.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_int=_integer)
        if _depth(value) > _MAX_DEPTH or canonical(value) != data:
            raise NotCanonical("not in canonical form (RFC 8785)")
    except NotCanonical:
        raise
    except (ValueError, RecursionError) as error:
        raise NotCanonical("not canonical JSON") from error
    return value


def _refuse(name: str) -> float:
    raise NotCanonical(f"{name} is no JSON")


def _integer(text: str) -> int | float:
    """RFC 8785 spells a large float such as 2^53 without a point."""
    return int(text) if len(text) < 17 and abs(int(text)) < 1 << 53 else float(text)


def _depth(value: Any) -> int:
    """Levels of nesting, without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        deepest = max(deepest, level)
        children = item.values() if isinstance(item, dict) else item
        if isinstance(item, dict | list):
            waiting += [(child, level + 1) for child in children]
    return deepest
