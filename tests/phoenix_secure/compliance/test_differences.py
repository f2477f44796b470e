"""What sets two reports apart, for people: no raw dictionaries, intervals with every figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import phoenix
from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.compare import compare
from phoenix_secure.compliance.differences import Difference, differences
from phoenix_secure.compliance.schema import Kind, Report


def changed(report: Report, id: str, value: Any) -> Report:
    """``report`` with another answer to one question."""
    fields = [
        each.model_copy(update={"value": value}) if each.id == id else each
        for each in report.fields
    ]
    return report.model_copy(update={"fields": tuple(fields)})


@pytest.fixture(scope="module")
def one(reported: Path) -> Report:
    return build_report(reported)


def of(first: Report, second: Report) -> list[tuple[str, str, str, str]]:
    return [(each.part, each.first, each.second, each.note) for each in differences(first, second)]


def test_equal_reports_differ_in_nothing(one: Report) -> None:
    assert differences(one, one) == ()


def test_a_setting_is_named_by_its_place(one: Report) -> None:
    architecture = one.value("A2.architecture")
    two = changed(one, "A2.architecture", architecture | {"block_channels": [8, 16]})
    assert of(one, two) == [("block_channels", "8, 8", "8, 16", "")]
    (found,) = differences(one, two)
    assert (found.kind, found.title) == (Kind.DERIVED, "Architecture")


@pytest.mark.parametrize(
    ("low", "high", "note"), [(0.5, 0.6, "intervals overlap"), (0.57, 0.7, "intervals are apart")]
)
def test_figures_stand_with_their_intervals(
    low: float, high: float, note: str, one: Report
) -> None:
    attacks = json.loads(json.dumps(one.value("E4.attacks")))
    attacks[0]["auc"] = {"value": 0.58, "low": low, "high": high}
    assert of(one, changed(one, "E4.attacks", attacks)) == [
        ("loss, auc", "0.52 [0.48, 0.56]", f"0.58 [{low:.3g}, {high:.3g}]", note)
    ]


def test_standard_deviations_stand_beside_their_figures(one: Report) -> None:
    first, second = (
        changed(one, "F1.quality", {"rows": {"samples": {"kid": kid, "kid_std": 0.012}}})
        for kid in (0.31, 0.29)
    )
    assert of(first, second) == [("rows, samples, kid", "0.31 ± 0.012", "0.29 ± 0.012", "")]


def test_records_of_one_name_are_all_compared(one: Report) -> None:
    attacks = [{"name": "loss", "p": 1}, {"name": "loss", "p": 2}]
    first = changed(one, "E4.attacks", attacks)
    second = changed(one, "E4.attacks", [attacks[0] | {"p": 3}, attacks[1]])
    assert of(first, second) == [("loss, p", "1", "3", "")]
    third = changed(one, "E4.attacks", attacks[:1])
    assert of(first, third) == [("loss (2), name", "loss", "-", ""), ("loss (2), p", "2", "-", "")]


def test_no_difference_is_lost_and_none_is_a_raw_dictionary(
    one: Report, plain: Path, run: Path, make_audit: Callable[..., bytes]
) -> None:
    (run / "audit" / "audit.json").write_bytes(make_audit(epsilon_lower=0.6))
    for two in (
        build_report(plain),
        build_report(run),
        build_report(plain, clause_map="2026-11-b"),
    ):
        found = compare(one, two)
        of_curves_alone = {"E4.strongest"}
        assert {each.field for each in found.parts} >= set(found.changed) - of_curves_alone
        for each in found.parts:
            assert isinstance(each, Difference)
            assert each.first != each.second or each.first.endswith("...")
            assert "{" not in each.first + each.second
            assert "'" not in each.first + each.second or each.kind is not Kind.MEASURED


def test_the_command_takes_folders_of_runs_and_of_reports(
    reported: Path, run: Path, make_audit: Callable[..., bytes], tmp_path: Path
) -> None:
    from phoenix_secure.compliance.output import write_report
    from phoenix_secure.compliance.signing import server_identity

    (run / "audit" / "audit.json").write_bytes(make_audit(epsilon_lower=0.6))
    write_report(run, identity=server_identity(run))
    done = phoenix("report", "diff", str(reported), str(run / "report"))
    assert done.code == 0, done.err
    assert "figures" in done.out
    assert "both runs promise the same" in done.out
    assert "{" not in done.out
    machine = json.loads(phoenix("report", "diff", str(reported), str(run), "--format", "json").out)
    assert {"field", "part", "first", "second", "note"} <= set(machine["parts"][0])
    empty = phoenix("report", "diff", str(reported), str(tmp_path / "run" / "audit"))
    assert empty.code == 2
    assert "there is no report in" in empty.err
