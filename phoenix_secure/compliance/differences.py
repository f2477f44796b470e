"""Differences of two reports, one part of an answer at a time, in words and with intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phoenix_secure.compliance.catalogue import TITLES
from phoenix_secure.compliance.schema import Kind, Report

__all__ = ["Difference", "differences"]

_NAMING = ("name", "attack", "what", "round", "mechanism")  # what tells records of a list apart
_INTERVAL, _SPREAD = {"value", "low", "high"}, {"value", "std"}
# A whole curve tells nobody apart; its area, with an interval, stands beside it.
_CURVES = frozenset({"curve"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One part of an answer in which two reports differ, as people read it.

    part     of the answer, such as "auc" of an attack; empty where the whole answer differs
    kind     of the first report's answer; the second's where the first has none
    note     where both are figures with intervals: whether these overlap
    """

    field: str
    title: str
    part: str
    kind: Kind
    first: str
    second: str
    note: str = ""


def differences(first: Report, second: Report) -> tuple[Difference, ...]:
    """Every part in which the two differ, in the catalogue's order.

    Fields of which one report knows nothing, because its map is older, differ in whole.
    """
    answers = [{each.id: each for each in report.fields} for report in (first, second)]
    found: list[Difference] = []
    for id, title in TITLES.items():
        one, two = (each.get(id) for each in answers)
        known = one or two
        if known is None or (one and one.value) == (two and two.value):
            continue
        if one is not None and two is not None and one.value is None:
            known = two
        parts = [
            {} if each is None or each.value is None else dict(_parts(each.value))
            for each in (one, two)
        ]
        for part in dict.fromkeys((*parts[0], *parts[1])):
            values = [each.get(part) for each in parts]
            if values[0] == values[1]:
                continue
            found.append(
                Difference(
                    field=id,
                    title=title,
                    part=part,
                    kind=known.kind,
                    first=_words(values[0]),
                    second=_words(values[1]),
                    note=_overlap(*values),
                )
            )
    return tuple(found)


def _parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of everything in an answer that is no longer nested, intervals apart."""
    if isinstance(value, dict) and value and not _is_figure(value):
        for name, each in _with_spread(value):
            yield from _parts(each, f"{path}, {name}" if path else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        seen: Counter[str] = Counter()
        for number, each in enumerate(value, start=1):
            name = _name(each, number)
            seen[name] += 1
            name += f" ({seen[name]})" if seen[name] > 1 else ""  # of one name: none is lost
            yield from _parts(each, f"{path}, {name}" if path else name)
    else:
        yield path, value


def _with_spread(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Entries, with ``x_std`` or ``x_low`` and ``x_high`` inside the figure that they are of."""
    for name, each in value.items():
        stem = re.sub(r"_(std|low|high)$", "", name)
        if name in _CURVES or (stem != name and _is_number(value.get(stem))):
            continue
        if _is_number(each) and _is_number(value.get(f"{name}_std")):
            each = {"value": each, "std": value[f"{name}_std"]}
        elif _is_number(each) and _is_number(value.get(f"{name}_low")):
            each = {"value": each, "low": value[f"{name}_low"], "high": value[f"{name}_high"]}
        yield str(name), each


def _name(record: Any, number: int) -> str:
    if isinstance(record, dict):
        for key in _NAMING:
            if isinstance(record.get(key), str):
                return str(record[key])
            if isinstance(record.get(key), int):
                return f"{key} {record[key]}"
    return f"no. {number}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_figure(value: dict[str, Any]) -> bool:
    return _is_interval(value) or set(value) == _SPREAD


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == _INTERVAL


def _words(value: Any) -> str:
    """A value that is not nested, for people; a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_interval(value):
        return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    if isinstance(value, dict) and set(value) == _SPREAD:
        return f"{value['value']:.3g} ± {value['std']:.2g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_words(each) for each in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items()) or "none"
    text = str(value) or "-"
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{40,}", text) else text


def _overlap(one: Any, two: Any) -> str:
    if not (_is_interval(one) and _is_interval(two)):
        return ""
    overlap = one["low"] <= two["high"] and two["low"] <= one["high"]
    return "intervals overlap" if overlap else "intervals are apart"
