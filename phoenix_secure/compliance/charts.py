"""Charts as inline SVG, rendered from a report's fields alone. Each has a title and a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from phoenix_secure.compliance.schema import Report
from phoenix_secure.privacy.ceiling import tpr_ceiling

__all__ = ["epsilon_gauges", "roc_chart", "timeline_chart"]

_INK, _BLUE, _RED, _GREEN, _GREY = "#1c1c1c", "#1b5e94", "#a8431a", "#2e6b34", "#6b6b6b"
_MAX_ROWS = 24
_MAX_COLUMNS = 60


def epsilon_gauges(report: Report) -> str:
    """One bar for each site on a logarithmic scale from 0.1 to 100, marks at 1 and 10; "" without
    a guarantee."""
    spent, claimed = report.value("C2.per_site"), report.value("C2.epsilon")
    if not spent or claimed is None:
        return ""
    unit = report.field("C2.epsilon").unit or ""
    rows = list(spent.items())[:_MAX_ROWS]
    left, width, step = 150.0, 470.0, 26.0
    bottom = 34 + step * len(rows)
    parts = []
    for low, high, colour, words in (
        (0.1, 1.0, "#dcebdd", "strong"),
        (1.0, 10.0, "#f4ecd4", "a real bound"),
        (10.0, 100.0, "#f3dcd3", "next to nothing"),
    ):
        x, end = left + _log(low, 0.1, 100) * width, left + _log(high, 0.1, 100) * width
        parts.append(_rect(x, 24, end - x, bottom - 24, colour))
        parts.append(_text((x + end) / 2, 16, words, anchor="middle", size=12))
    for number, (site, epsilon) in enumerate(rows):
        y = 32 + step * number
        length = max(2.0, _log(epsilon, 0.1, 100) * width)
        parts.append(_text(left - 8, y + 13, str(site)[:20], anchor="end"))
        parts.append(_rect(left, y, length, 16, _BLUE))
        inside = length > width - 60
        parts.append(
            _text(
                left + length + (-6 if inside else 6),
                y + 13,
                f"{epsilon:.3g}",
                anchor="end" if inside else "start",
                colour="#fff" if inside else _INK,
            )
        )
    at = left + _log(claimed, 0.1, 100) * width
    parts.append(_line(at, 22, at, bottom, _RED, width=2))
    parts.append(_text(at, bottom + 14, f"claimed: {claimed:.3g}", anchor="middle", colour=_RED))
    for mark in (0.1, 1, 10, 100):
        x = left + _log(mark, 0.1, 100) * width
        parts.append(_text(x, bottom + 30, f"{mark:g}", anchor="middle", size=12))
    more = "" if len(spent) <= _MAX_ROWS else f", the first {_MAX_ROWS} of {len(spent)} sites"
    words = (
        f"Epsilon spent, {unit}{more}: "
        + ", ".join(f"{site} {epsilon:.3g}" for site, epsilon in rows)
        + f"; claimed {claimed:.3g}"
    )
    return _svg(parts, 660, bottom + 38, title=f"Epsilon of each site ({unit})", words=words)


def roc_chart(report: Report) -> str:
    """True against false positives of the strongest attack, both logarithmic, below the ceiling
    that the guarantee sets; "" without an attack."""
    best = report.value("E4.strongest")
    if best is None:
        return ""
    points = [each for each in best["tpr"] if each["tpr"] is not None]
    left, top, size = 70.0, 20.0, 330.0
    attained = [fpr for fpr, _ in best["curve"] if fpr > 0]
    low = min([0.5 * each["fpr"] for each in points] + [*attained, 0.5])

    def x(fpr: float) -> float:
        return left + _log(fpr, low, 1) * size

    def y(tpr: float) -> float:
        return top + size - _log(tpr, low, 1) * size

    parts = [_rect(left, top, size, size, "#fff", stroke=_GREY)]
    for mark in (0.001, 0.01, 0.1, 1.0):
        if mark >= low:
            parts.append(_line(x(mark), top, x(mark), top + size, "#e3e3e3"))
            parts.append(_line(left, y(mark), left + size, y(mark), "#e3e3e3"))
            parts.append(_text(x(mark), top + size + 18, f"{100 * mark:g} %", anchor="middle"))
            parts.append(_text(left - 8, y(mark) + 4, f"{100 * mark:g} %", anchor="end"))
    parts.append(_line(x(low), y(low), x(1), y(1), _GREY, dashed=True))
    legend = [(_GREY, "guessing"), (_RED, f"{best['name']}, with its interval")]
    epsilon, delta = report.value("C2.epsilon"), report.value("C2.delta")
    if epsilon is not None and report.value("B3.unit")["unit"] in ("record", "group"):
        grid = [low ** (1 - k / 60) for k in range(61)]
        curve = " ".join(
            f"{x(fpr):.1f},{y(tpr_ceiling(fpr, epsilon=epsilon, delta=delta)):.1f}" for fpr in grid
        )
        parts.append(f'<polyline points="{curve}" fill="none" stroke="{_INK}" stroke-width="2.5"/>')
        legend.append((_INK, f"no attack can be above: epsilon {epsilon:.3g}"))
    steps = _steps([(fpr, tpr) for fpr, tpr in best["curve"] if fpr > 0])
    path = " ".join(f"{x(fpr):.1f},{y(tpr):.1f}" for fpr, tpr in steps)
    if path:
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_RED}" stroke-width="1.5"/>')
    for each in points:
        tpr = each["tpr"]
        centre = x(each["fpr"])
        parts.append(_line(centre, y(tpr["low"]), centre, y(tpr["high"]), _RED, width=2))
        parts.append(f'<circle cx="{centre:.1f}" cy="{y(tpr["value"]):.1f}" r="5" fill="{_RED}"/>')
    parts.append(
        _text(left + size / 2, top + size + 42, "non-members taken for members", anchor="middle")
    )
    parts.append(
        f'<text x="16" y="{top + size / 2}" font-size="13" fill="{_INK}" text-anchor="middle" '
        f'transform="rotate(-90 16 {top + size / 2})">members found</text>'
    )
    for number, (colour, label) in enumerate(legend):
        parts.append(_rect(left + size + 20, top + 8 + 24 * number, 14, 14, colour))
        parts.append(_text(left + size + 40, top + 20 + 24 * number, label))
    words = f"{best['name']}: " + "; ".join(_tpr_words(each) for each in best["tpr"])
    return _svg(
        parts, 690, top + size + 54, title="Members found by the strongest attack", words=words
    )


def _steps(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Between two attainable points an attack stays at the lower TPR until the next FPR."""
    found: list[tuple[float, float]] = []
    for fpr, tpr in curve:
        if found:
            found.append((fpr, found[-1][1]))
        found.append((fpr, tpr))
    return found


def timeline_chart(report: Report) -> str:
    """A column for each round (or group of rounds): how many of the asked sites are in its sum."""
    rounds = report.value("H1.timeline") or []
    if not rounds:
        return ""
    groups = _grouped(rounds)
    width, height, left = 600.0 / len(groups), 90.0, 50.0
    most = max(_count(row["asked"]) for row in rounds) or 1
    parts = [_text(left - 8, 24, str(most), anchor="end"), _text(left - 8, 104, "0", anchor="end")]
    for number, group in enumerate(groups):
        asked = max(_count(row["asked"]) for row in group)
        summed = min(_count(row["in_sum"]) for row in group)
        at = left + number * width
        bar = height * summed / most
        parts.append(
            _rect(
                at + 1,
                14 + height * (1 - asked / most),
                width - 2,
                height * asked / most,
                "#e6c9bd",
            )
        )
        parts.append(_rect(at + 1, 14 + height - bar, width - 2, bar, _GREEN))
        if any(row["failures"] for row in group):
            parts.append(_text(at + width / 2, 11, "!", anchor="middle", colour=_RED, size=14))
        if any(row["resumed"] for row in group):
            parts.append(_line(at, 8, at, 108, _BLUE, dashed=True))
    first, last = rounds[0]["round"], rounds[-1]["round"]
    parts.append(_text(left, 124, f"round {first}"))
    parts.append(_text(left + 600, 124, f"round {last}", anchor="end"))
    drops = sum(_count(row["asked"]) - _count(row["in_sum"]) for row in rounds if row["in_sum"])
    failures = sum(row["failures"] for row in rounds)
    words = (
        f"{len(rounds)} rounds, up to {most} sites asked; {drops} times a site was asked and is "
        f"not in the sum; {failures} failed attempts; resumed "
        f"{sum(row['resumed'] for row in rounds)} times"
    )
    return _svg(parts, 670, 134, title="Sites in the sum of each round", words=words)


def _grouped(rounds: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    step = math.ceil(len(rounds) / _MAX_COLUMNS)
    return [list(rounds[k : k + step]) for k in range(0, len(rounds), step)]


def _count(value: Any) -> int:
    return value if isinstance(value, int) else len(value)


def _tpr_words(each: dict[str, Any]) -> str:
    tpr = each["tpr"]
    if tpr is None:
        return f"at {100 * each['fpr']:g} % not estimable"
    return (
        f"{100 * tpr['value']:.1f} % of members [{100 * tpr['low']:.1f}, {100 * tpr['high']:.1f}] "
        f"at {100 * each['fpr']:g} % of non-members"
    )


def _log(value: float, low: float, high: float) -> float:
    """Place between ``low`` and ``high`` on a logarithmic scale, within [0, 1]."""
    held = min(high, max(low, value))
    return math.log(held / low) / math.log(high / low)


def _svg(parts: Iterable[str], width: float, height: float, *, title: str, words: str) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'aria-label="{escape(title)}. {escape(words)}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(words)}</desc>{''.join(parts)}</svg>"
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, *, stroke: str = "") -> str:
    edge = f' stroke="{stroke}"' if stroke else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
        f'height="{max(height, 0):.1f}" fill="{fill}"{edge}/>'
    )


def _line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    *,
    width: float = 1,
    dashed: bool = False,
) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dash}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
