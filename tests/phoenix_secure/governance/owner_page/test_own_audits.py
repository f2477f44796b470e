"""A site's own reports, from its folder onto the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audited_scores import plan_of, scored, units_of
from owned_site import OwnedSite, Visitor
from phoenix_secure.audit.figures import attack_reports
from phoenix_secure.audit.report import AuditReport, BlindReport
from phoenix_secure.audit.verdict import decide
from phoenix_secure.errors import CheckpointError
from phoenix_secure.governance.owner_page.own_audits import own_audits

PLAN = "3f9c" * 16


def report_of(gap: float) -> AuditReport:
    """The audit of a model whose losses tell members apart by ``gap`` standard deviations."""
    num, draws = 200, np.random.default_rng(7)
    scores = draws.normal(size=2 * num) + gap * (np.arange(2 * num) < num)
    units, plan = units_of(num), plan_of(num)
    found = attack_reports([scored(scores)], units=units, plan=plan)
    return AuditReport(
        edition="confidential",
        verdict=decide(found, units=units, canaries=None, plan=plan),
        game=(),
        target={},
        plan=plan,
        plan_sha256="",
        other_plans=0,
        choice_source="",
        attacks=found,
        skipped={},
        blind=BlindReport(auc=None, differs=None, reason="none"),
        loss_of_members=None,
        loss_of_non_members=None,
        strata=(),
        exposed=(),
        copying=None,
        canaries=None,
        federated=None,
        seconds=0,
    )


def keep(folder: Path, report: AuditReport) -> Path:
    path = folder / "audits" / PLAN / "audit.json"
    path.parent.mkdir(parents=True)
    path.write_text(report.model_dump_json())
    return path


def test_reports_are_read_by_plan(tmp_path: Path) -> None:
    assert own_audits(tmp_path) == []
    report = report_of(3.0)
    keep(tmp_path, report)
    [found] = own_audits(tmp_path)
    assert (found.plan, found.report) == (PLAN, report)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "phoenix-secure/audit/v9"}'])
def test_file_that_is_no_report_is_named(tmp_path: Path, content: str) -> None:
    path = keep(tmp_path, report_of(0.0))
    path.write_text(content)
    with pytest.raises(CheckpointError, match="is no report of an audit"):
        own_audits(tmp_path)


@pytest.mark.parametrize(("gap", "said"), [(3.0, "Leak found"), (0.0, "No leak detected")])
def test_page_shows_verdict_and_figures(tmp_path: Path, gap: float, said: str) -> None:
    site = OwnedSite(tmp_path / "trial")
    visitor = Visitor(site.page())
    visitor.open()
    assert "There is none" in visitor.text("audits")
    report = report_of(gap)
    keep(site.place.path, report)
    html = visitor.text("audits")
    assert said in html
    assert f"{report.attacks[0].auc.value:.3f}" in html
    assert PLAN[:16] in html
