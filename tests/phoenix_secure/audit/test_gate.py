"""A gate breaks on what its rules name, on what cannot be estimated, and never on typing errors
without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audited_scores import plan_of, report_of, scored
from phoenix_secure.audit.gate import Gate
from phoenix_secure.audit.plan import Claim
from phoenix_secure.audit.report import AuditReport, CopiesReport
from phoenix_secure.errors import ConfigError

NUM = 400


def report(*, shift: float = 0.0, **parts: object) -> AuditReport:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(2 * NUM)
    values[:NUM] += shift
    return report_of(scored(values), **parts)  # type: ignore[arg-type]


def gate(tmp_path: Path, text: str) -> Gate:
    (tmp_path / "gate.yaml").write_text(text)
    return Gate.read(tmp_path / "gate.yaml")


CLEAN, LEAKS = report(), report(shift=1.0)


def test_a_clean_audit_passes_rules_that_it_keeps(tmp_path: Path) -> None:
    rules = "max_auc: 0.55\nmax_auc_high: 0.6\nmax_tpr: {0.1: 0.2}\nmax_detectable_auc: 0.6\n"
    assert gate(tmp_path, rules + "attacks: [loss]\n").objections(CLEAN) == ()
    assert gate(tmp_path, "{}").objections(CLEAN) == ()


@pytest.mark.parametrize(
    ("rules", "found", "named"),
    [
        ("{}", LEAKS, "verdict: leak found"),
        ("allow_leak: true\nmax_auc: 0.6", LEAKS, "max_auc: loss has 0.7"),
        ("max_auc_high: 0.51", CLEAN, "max_auc_high: loss has 0.5"),
        ("max_tpr: {0.1: 0.05}", CLEAN, "max_tpr: loss may have"),
        ("max_tpr: {0.001: 0.05}", CLEAN, "--fpr 0.001"),
        ("max_detectable_auc: 0.51", CLEAN, "audit more images"),
        ("attacks: [loss, pia]", CLEAN, "pia was not run"),
        ("max_copies: 0", CLEAN, "did not count"),
        ("max_epsilon: 8", CLEAN, "no guarantee is claimed"),
        (
            "max_copies: 0",
            report(copies=CopiesReport(num_members=400, exact=2, near=0, across=0)),
            "2 members are copies",
        ),
        (
            "max_epsilon: 8",
            report(
                plan=plan_of(NUM).model_copy(
                    update={"claim": Claim(unit="record", epsilon=9, delta=1e-5, source="")}
                )
            ),
            "9 is claimed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "report",
)
def test_each_rule_breaks_and_says_by_what(
    rules: str, found: AuditReport, named: str, tmp_path: Path
) -> None:
    (objection,) = gate(tmp_path, rules).objections(found)
    assert named in objection


def test_a_leak_within_limits_that_were_set_passes(tmp_path: Path) -> None:
    assert gate(tmp_path, "allow_leak: true\nmax_auc: 0.9").objections(LEAKS) == ()


def test_a_contradicted_guarantee_never_passes(tmp_path: Path) -> None:
    verdict = LEAKS.verdict.model_copy(update={"fail": True})
    found = LEAKS.model_copy(update={"verdict": verdict})
    assert gate(tmp_path, "allow_leak: true\nmax_auc: 1.0").objections(found)


def test_figures_of_a_failed_placebo_pass_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(2 * NUM)
    odd = np.concatenate([np.full(NUM // 2, 9.0), np.zeros(NUM // 2)])
    found = report_of(scored(values, placebo=odd))
    assert not found.attacks[0].placebo_inside
    objections = gate(tmp_path, "allow_inconclusive: true").objections(found)
    assert objections == ("attacks: none passed its placebo",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("max_auk: 0.5", "max_auk"),
        ("max_auc: 55", "max_auc"),
        ("max_auc: .nan", "max_auc"),
        ("max_tpr: {often: 0.1}", "max_tpr"),
        ("allow_leak: true", "needs a limit"),
        ("- 1", "gate.yaml"),
    ],
)
def test_a_wrong_rule_is_an_error_that_lists_the_right_ones(
    text: str, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        gate(tmp_path, text)
