"""The page: complete without a network, readable without a mouse, safe with hostile words."""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weasyprint
from PIL import Image
from weasyprint.formatting_structure import boxes

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.charts import epsilon_gauges, roc_chart, timeline_chart
from phoenix_secure.compliance.exports.bom import to_bom
from phoenix_secure.compliance.exports.model_card import to_model_card
from phoenix_secure.compliance.exports.registry import to_registry_entry
from phoenix_secure.compliance.page import to_html, to_markdown
from phoenix_secure.compliance.pdf import to_pdf


class _Outline(HTMLParser):
    """Headings, ids, addresses and pictures of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.addresses: list[str] = []
        self.unnamed: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        address = values.get("href") or values.get("src") or ""
        (self.targets if address.startswith("#") else self.addresses).append(address)
        named = values.get("alt") if tag == "img" else values.get("aria-label")
        if tag in ("img", "svg") and not named:
            self.unnamed.append(tag)


def outline(page: str) -> _Outline:
    found = _Outline()
    found.feed(page)
    return found


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "report" / "report.html").read_text()


def test_the_page_asks_for_nothing_and_runs_nothing(page: str) -> None:
    found = outline(page)
    assert all(address == "" or address.startswith("data:") for address in found.addresses)
    assert "script" not in found.tags
    assert "default-src 'none'" in page
    assert "url(" not in page


def test_headings_have_one_top_and_skip_no_level(page: str) -> None:
    levels = outline(page).headings
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_pictures_have_words_and_links_have_targets(page: str) -> None:
    found = outline(page)
    assert found.unnamed == []
    assert {target[1:] for target in found.targets} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_the_page_has_the_order_of_an_impact_assessment(page: str) -> None:
    order = ["purpose", "necessity", "trust", "risks", "measures", "decisions", "signatures"]
    annex = ["annex-start", "gaps", "guarantee", "attacks", "training", "all", "check", "glossary"]
    before = [page.index('class="strip"'), page.index('class="said"')]
    places = [*before, *(page.index(f'<h2 id="{id}"') for id in [*order, *annex])]
    assert places == sorted(places)
    assert re.findall(r">Annex (\d+)\. ", page) == [str(n) for n in range(1, len(annex))]


def _contrast(one: str, other: str) -> float:
    """Contrast of two colours, WCAG 2.2, section 1.4.3: 1 to 21."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_words_stand_out_by_day_by_night_and_on_paper(page: str) -> None:
    schemes = re.findall(r":root \{([^}]*)\}", page)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", scheme))
        for name in ("ink", "soft", "blue", "red", "green", "brown"):
            assert _contrast(colours[name], colours["paper"]) >= 4.5, (name, scheme)
        for name in ("yes", "some", "no", "shade"):
            assert _contrast(colours["ink"], colours[name]) >= 4.5, (name, scheme)


def test_words_of_the_glossary_are_linked_where_they_stand(page: str) -> None:
    strip = page[page.index('class="strip"') : page.index('class="said"')]
    assert '<a class="term" href="#g-epsilon">epsilon</a>' in strip


def test_hostile_words_stay_words(run: Path) -> None:
    evil = '</td><script>alert(1)</script>" onload="x'
    (run / "governance.yaml").write_text(json.dumps({"purpose": {"text": evil}}))
    report = build_report(run)
    assert "<script>" not in to_html(report, samples=None)
    assert "<script>" not in to_markdown(report)


def test_no_edition_turns_the_direction_of_writing(run: Path) -> None:
    name = "Clinic \u202egnik\u2066 A | B\n<b>C</b>\x1b[31m"
    text = json.dumps({"parties": {"controllers": [{"name": name, "kind": "nonprofit"}]}})
    (run / "governance.yaml").write_text(text)
    report = build_report(run)
    editions = [
        to_html(report, samples=None),
        to_markdown(report),
        to_model_card(report),
        to_registry_entry(report) or "",
        to_bom(report).decode(),
        report.to_bytes().decode(),
    ]
    for written in editions:
        assert not set(written) & {"\u202e", "\u2066", "\x1b"}
    assert "Clinic gnik A | B" in editions[0]
    assert "&lt;b&gt;C" in editions[0]
    row = next(line for line in editions[1].splitlines() if "gnik" in line)
    assert "A \\| B" in row
    assert "<b>" not in row


def test_charts_say_in_words_what_they_show(reported: Path) -> None:
    report = build_report(reported)
    gauges = epsilon_gauges(report)
    assert "per record, delta 1e-05" in gauges
    assert f"claimed {report.value('C2.epsilon'):.3g}" in gauges
    assert "12.0 % of members" in roc_chart(report)
    assert "not estimable" in roc_chart(report)
    assert "no attack can be above" in roc_chart(report)
    assert "2 rounds, up to 5 sites asked" in timeline_chart(report)


def test_markdown_tables_have_equal_rows(reported: Path) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", to_markdown(build_report(reported)), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block[:200]


def unpacked(document: bytes) -> bytes:
    """The PDF with its compressed streams, one after another."""
    parts = [document]
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", document, re.DOTALL):
        with contextlib.suppress(zlib.error):
            parts.append(zlib.decompress(stream))
    return b"".join(parts)


@pytest.mark.slow
def test_the_pdf_of_a_report_is_tagged_and_repeatable(page: str) -> None:
    document = to_pdf(page)
    assert document.startswith(b"%PDF-")
    assert b"pdfuaid" in unpacked(document)  # PDF/UA's own mark in the metadata
    assert to_pdf(page) == document


def _lines(box: Any) -> Iterator[Any]:
    """The lines of text below a box of WeasyPrint's layout."""
    if isinstance(box, boxes.LineBox):
        yield box
    for child in getattr(box, "children", ()):
        yield from _lines(child)


def _text(box: Any) -> str:
    if isinstance(box, boxes.TextBox):
        return str(box.text)
    return "".join(_text(child) for child in getattr(box, "children", ()))


def test_the_pdf_is_short_and_breaks_no_word_nor_leaves_its_page(page: str) -> None:
    document = weasyprint.HTML(string=page).render()
    (annex,) = (n for n, each in enumerate(document.pages) if "annex-start" in each.anchors)
    assert annex <= 8
    assert len(document.pages) - annex <= 25
    known = {part for word in _words_of(page).lower().split() for part in _cut(word)}
    long = " ".join(part for part in known if len(part) > 20)
    for each in document.pages:
        for line in _lines(each._page_box):
            assert line.position_x >= 0
            assert line.position_x + line.width <= each.width + 0.5
            for word in _text(line).lower().split():
                for part in _cut(word):
                    assert part in known or part in long, (word, _text(line))


def _words_of(page: str) -> str:
    body = page[page.index("<body>") :].replace("<wbr>", " ")
    spaced = re.sub(r"<(?!/?(a|code|em|strong|span)\b)[^>]*>", " ", body)
    return html.unescape(re.sub(r"<[^>]*>", "", spaced))


def _cut(word: str) -> list[str]:
    """Parts between which a line may be broken."""
    return [part for part in re.split(r"[^\w.%]+|[._/]", word) if part]


def test_a_pdf_asks_for_nothing_outside_the_page() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        to_pdf('<html lang="en"><title>x</title><img alt="x" src="http://127.0.0.1:9/x.png">')


@pytest.mark.browser
def test_a_browser_opens_the_page_without_errors_or_requests(
    reported: Path, open_page: Callable[..., object]
) -> None:
    visit = open_page(reported / "report" / "report.html", height=3000)
    assert visit.console == []
    assert visit.requests == []
    pixels = np.asarray(Image.open(visit.screenshot).convert("L"))
    assert pixels.shape == (3000, 1000)
    assert 0.01 < float((pixels < 128).mean()) < 0.5  # neither blank nor black


@pytest.mark.long
@pytest.mark.browser
def test_a_narrow_screen_needs_no_sideways_scrolling_of_the_page(
    reported: Path, open_page: Callable[..., object], tmp_path: Path
) -> None:
    text = (reported / "report" / "report.html").read_text()
    # The page's own policy allows no script: this copy reports its width through the console.
    probe = "<script>console.log('width ' + document.documentElement.scrollWidth)</script></body>"
    copy = tmp_path / "narrow.html"
    copy.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", probe))
    phone = tmp_path / "phone.html"  # a window of its own is never as narrow
    phone.write_text('<iframe src="narrow.html" width="390" height="800"></iframe>')
    found = re.search(r"width (\d+)", " ".join(open_page(phone).console))
    assert found is not None
    assert 300 < int(found.group(1)) <= 390


@pytest.mark.browser
def test_the_browser_fixture_sees_errors_and_requests(
    open_page: Callable[..., object], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://127.0.0.1:9/x.png"><script>throw new Error("bang")</script>')
    visit = open_page(bad)
    assert any("bang" in text for text in visit.console)
    assert visit.requests == ["http://127.0.0.1:9/x.png"]


def test_the_roc_of_an_attack_that_ties_everybody_is_drawn(
    run: Path, make_audit: Callable[..., bytes]
) -> None:
    audit = json.loads(make_audit())
    (attack,) = audit["attacks"]
    attack["curve"] = [[0.0, 0.0], [1.0, 1.0]]
    attack["tpr"] = [{**each, "tpr": None} for each in attack["tpr"]]
    (run / "audit" / "audit.json").write_text(json.dumps(audit))
    assert "<svg" in roc_chart(build_report(run))
