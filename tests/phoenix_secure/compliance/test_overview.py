"""The first pages say what the fields say, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.overview import (
    decisions,
    figures,
    label,
    measures,
    open_questions,
    risks,
    sentences,
)
from phoenix_secure.compliance.schema import Report


@pytest.fixture
def report(reported: Path) -> Report:
    return build_report(reported)


def with_value(report: Report, id: str, value: Any) -> Report:
    fields = tuple(
        each.model_copy(update={"value": value}) if each.id == id else each
        for each in report.fields
    )
    return report.model_copy(update={"fields": fields})


def test_every_gap_is_somebody_s(report: Report) -> None:
    counts = open_questions(report)
    assert sum(counts.values()) == len(report.gaps)
    assert sum(len(each.fields) for each in decisions(report)) == counts["yours"]


@pytest.mark.parametrize(
    ("near", "by_chance", "told"),
    [(0, 0, "not seen"), (4, 8, "no nearer to training images"), (9, 1, "likely: 9")],
)
def test_likenesses_count_beside_those_by_chance(
    report: Report, near: int, by_chance: int, told: str
) -> None:
    copying = {**report.value("E5.copying"), "extracted": near, "extracted_control": by_chance}
    (risk,) = (
        each
        for each in risks(with_value(report, "E5.copying", copying))
        if each.fields == ("E5.copying",)
    )
    assert told in risk.likelihood
    (figure,) = (
        each
        for each in figures(with_value(report, "E5.copying", copying))
        if each.field == "E5.copying"
    )
    assert ("as by chance" in figure.comment) == (near <= by_chance)


@pytest.mark.parametrize(
    ("epsilon", "told"),
    [(0.5, "limit is strong"), (8.0, "99.97 % sure"), (40.0, "next to nothing")],
)
def test_the_sentence_on_the_proof_promises_no_more_than_epsilon_does(
    report: Report, epsilon: float, told: str
) -> None:
    sentence = sentences(with_value(report, "C2.epsilon", epsilon))[1]
    assert told in sentence
    assert ("strong" in sentence) == (epsilon < 1)


@pytest.mark.parametrize(("ceiling", "rules_out"), [(0.03, True), (0.9997, False)])
def test_a_proof_that_rules_out_little_says_so(
    report: Report, ceiling: float, rules_out: bool
) -> None:
    changed = with_value(report, "C4.ceilings", {"0.01": ceiling})
    assert ("rules out little" not in risks(changed)[0].likelihood) == rules_out


def test_without_privacy_or_an_audit_nothing_is_proven_or_known(
    run: Path, make_audit: Callable[..., bytes]
) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["guarantee"]["epsilon"] is not None
    report = build_report(run)
    assert label(report)[0].text.startswith("epsilon")
    none = with_value(with_value(report, "C2.epsilon", None), "E4.verdict", None)
    cells = {cell.title: cell for cell in label(none)}
    assert cells["Proven"].text == "nothing"
    assert cells["Largest leak found"].text == "nobody looked"
    assert "No proof" in sentences(none)[1]
    assert "Nobody tried" in sentences(none)[2]
    assert {each.name: each.state for each in measures(none)}["Differential privacy"] == "off"
