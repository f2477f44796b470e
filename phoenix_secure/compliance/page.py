"""The report for people: one HTML page that asks for nothing outside itself, and Markdown."""

from __future__ import annotations

import base64
import functools
import json
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from phoenix_secure.compliance import overview
from phoenix_secure.compliance.catalogue import SECTIONS
from phoenix_secure.compliance.charts import epsilon_gauges, roc_chart, timeline_chart
from phoenix_secure.compliance.clause_map import ClauseMap, load_clause_map
from phoenix_secure.compliance.declared import GOVERNANCE
from phoenix_secure.compliance.schema import Report, ReportField
from phoenix_secure.compliance.sections.trust import ARTEFACTS
from phoenix_secure.compliance.vulnerabilities import vulnerability_table
from phoenix_secure.printed_text import markdown_cell, without_controls
from phoenix_secure.yaml_text import parse_yaml

__all__ = ["to_html", "to_markdown"]

_QUALITY_COLUMNS = {
    "kid": "KID",
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
_LONG = 12
_BY_PEOPLE = f"people must say it, in {GOVERNANCE} (phoenix-secure report --template)"


def to_html(report: Report, *, samples: bytes | None, samples_reason: str = "") -> str:
    """The page; ``samples`` is a PNG, or ``samples_reason`` says why there is none.

    Guarantee:  no script, no outside request (its own policy forbids both); everything that comes
                from files or people is escaped.
    """
    return _render(
        "report.html.j2",
        report,
        autoescape=True,
        samples=None if samples is None else base64.b64encode(samples).decode(),
        samples_reason=samples_reason,
    )


def to_markdown(report: Report) -> str:
    """The same in Markdown, without pictures."""
    text = _render("report.md.j2", report, autoescape=False, samples=None, samples_reason="")
    return re.sub(r"\n{3,}", "\n\n", text.replace("|\n\n|", "|\n|"))


@functools.cache
def _environment(*, autoescape: bool) -> Environment:
    """It keeps its templates compiled, which takes as long as the rest of a page."""
    environment = Environment(
        loader=PackageLoader("phoenix_secure.compliance"),
        autoescape=autoescape,  # noqa: S701 - off for Markdown alone, which has its own filter
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_cell
    environment.filters["first_capital"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["linked"] = lambda text: _linked(text, _glossary())
    return environment


def _render(template: str, report: Report, *, autoescape: bool, **more: Any) -> str:
    clauses = load_clause_map(report.clause_map)
    quality = report.value("F1.quality")
    copying = report.value("E5.copying")
    known = report.value("D5.known_vulnerabilities")
    page = (
        _environment(autoescape=autoescape)
        .get_template(template)
        .render(
            report=report,
            value=report.field,
            epsilon=report.value("C2.epsilon"),
            gaps=report.gaps,
            gap_groups=_gap_groups(report.gaps, clauses),
            profiles=", ".join(each.value for each in report.profiles),
            sections=SECTIONS,
            artefacts=ARTEFACTS,
            shade=_shade,
            answer=lambda each: _answer(each.value),
            plain=_plain,
            clauses=clauses,
            clause_words=lambda each: "; ".join(clauses.words(id) for id in each.clauses),
            gauges=Markup(epsilon_gauges(report)),  # noqa: S704 - built and escaped in charts
            roc=Markup(roc_chart(report)),  # noqa: S704
            timeline=Markup(timeline_chart(report)),  # noqa: S704
            quality=None if quality is None else _quality(quality),
            quality_columns=_QUALITY_COLUMNS,
            copies_unscreened=copying is None,
            known_vulnerabilities=None if known is None else vulnerability_table(known),
            glossary=_glossary(),
            anchor=_anchor,
            label=overview.label(report),
            sentences=overview.sentences(report),
            figures=overview.figures(report),
            risks=overview.risks(report),
            measures=overview.measures(report),
            decisions=overview.decisions(report),
            **more,
        )
    )
    return without_controls(page)


def _gap_groups(gaps: tuple[ReportField, ...], clauses: ClauseMap) -> list[dict[str, Any]]:
    """Gaps that the same step would fill, together; what the run itself lacks comes first."""
    groups: dict[str, list[ReportField]] = {}
    for each in gaps:
        note = each.note or "nothing known"
        is_declared = note.endswith(f"in {GOVERNANCE}")
        groups.setdefault(_BY_PEOPLE if is_declared else note, []).append(each)
    found = []
    for what, fields in sorted(groups.items(), key=lambda item: item[0] == _BY_PEOPLE):
        words = sorted({clauses.words(id) for each in fields for id in each.clauses})
        found.append({"what": what, "fields": fields, "clauses": words})
    return found


def _quality(quality: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows with a cell for each column, whatever an older evaluation measured."""
    rows = quality["rows"] or {}
    return {name: {key: row.get(key) for key in _QUALITY_COLUMNS} for name, row in rows.items()}


@functools.cache
def _glossary() -> dict[str, str]:
    source = files("phoenix_secure.compliance").joinpath("data/glossary.yaml")
    return dict(parse_yaml(source.read_bytes(), name="glossary.yaml"))


def _anchor(word: str) -> str:
    return "g-" + re.sub(r"[^a-z]+", "-", word.lower())


def _linked(text: str, glossary: dict[str, str]) -> Markup:
    """``text`` with each word of the glossary linked where it stands first; long words win."""
    words = sorted(glossary, key=len, reverse=True)
    any_word = "|".join(re.escape(str(escape(word))) for word in words)
    pattern = re.compile(rf"\b({any_word})\b", re.IGNORECASE)
    targets = {str(escape(word)).lower(): _anchor(word) for word in words}
    seen: set[str] = set()

    def link(found: re.Match[str]) -> str:
        word = found.group(0)
        if word.lower() in seen:
            return word
        seen.add(word.lower())
        return f'<a class="term" href="#{targets[word.lower()]}">{word}</a>'

    return Markup(pattern.sub(link, str(escape(text))))  # noqa: S704 - escaped before


def _shade(cell: str) -> str:
    """Red sees it as it is, yellow a part of it or with noise, green nothing."""
    if cell.startswith("no"):
        return "no"
    return "yes" if cell in ("yes", "of each site") else "some"


def _answer(value: Any) -> Markup:
    """Plain JSON for people: short lists in a line, long or nested ones to unfold."""
    if value is None:
        return Markup("&ndash;")
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    if isinstance(value, float):
        return Markup(f"{value:.6g}")  # noqa: S704 - a number
    if isinstance(value, int):
        return Markup(f"{value:,}")  # noqa: S704 - a number
    if isinstance(value, list | dict):
        return _many(value)
    return escape(str(value))


def _many(value: list[Any] | dict[str, Any]) -> Markup:
    pairs = list(value.items()) if isinstance(value, dict) else [(None, each) for each in value]
    flat = not any(isinstance(each, list | dict) for _, each in pairs)
    if flat and isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return Markup(", ").join(_answer(each) for each in value)
    items = Markup("").join(
        Markup("<li>{}{}</li>").format(
            Markup("") if name is None else Markup("<em>{}</em>: ").format(name), _answer(each)
        )
        for name, each in pairs
    )
    many = Markup('<ul class="plain">{}</ul>').format(items)
    if len(pairs) > _LONG or not flat:
        return Markup("<details><summary>{} entries</summary>{}</details>").format(len(pairs), many)
    return many


def _plain(each: ReportField) -> str:
    if each.value is None:
        return "-"
    if isinstance(each.value, str):
        return each.value
    text = json.dumps(each.value, ensure_ascii=False, sort_keys=True)
    return text if len(text) < 600 else f"{text[:600]} ... (whole in report.json)"
