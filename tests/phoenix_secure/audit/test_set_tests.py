"""Tests of whole sets count towards the audit's one false-alarm rate, and towards its verdict."""

from __future__ import annotations

import numpy as np
import pytest

from audited_scores import plan_of, scored, units_of
from phoenix_secure.audit.figures import adjusted_together, attack_reports
from phoenix_secure.audit.report import Outcome
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.significance import holm, low_fpr_p_value, rank_p_value
from phoenix_secure.audit.verdict import SetTest, decide

NUM = 400
MEMBERS = units_of(NUM).membership


PLAN = plan_of(NUM)


def of_nothing(name: str, rng: np.random.Generator) -> Scored:
    return scored(rng.standard_normal(2 * NUM), name=name)


def test_all_tests_are_adjusted_together() -> None:
    rng = np.random.default_rng(0)
    attacks = [of_nothing("loss", rng), of_nothing("pia", rng)]
    also = (0.001, 0.3)
    of_rank = [rank_p_value(one.scores, membership=MEMBERS) for one in attacks]
    of_low = [low_fpr_p_value(one.scores, membership=MEMBERS, target=0.1) for one in attacks]
    slow = holm([*of_rank, *of_low, *also])
    assert adjusted_together(attacks, units=units_of(NUM), also=also) == slow[4:]
    reports = attack_reports(attacks, units=units_of(NUM), plan=PLAN, also=also)
    for k, report in enumerate(reports):
        assert report.p_adjusted == min(slow[k], slow[2 + k])
    assert adjusted_together(attacks, units=units_of(NUM), also=()) == []


@pytest.mark.parametrize(
    ("change", "differs", "outcome"),
    [
        ({}, False, Outcome.LEAK),
        ({"p_adjusted": 0.06}, False, Outcome.NONE),
        ({"placebo_inside": False}, False, Outcome.NONE),
        ({"told_blindly": True}, False, Outcome.NONE),
        ({}, True, Outcome.INCONCLUSIVE),
    ],
    ids=str,
)
def test_a_set_that_is_told_is_a_leak_unless_it_is_told_without_the_model(
    change: dict[str, object], differs: bool, outcome: Outcome
) -> None:
    test = {
        "name": "dataset-inference",
        "p_value": 1e-6,
        "p_adjusted": 1e-5,
        "placebo_inside": True,
        "told_blindly": False,
    }
    own = units_of(NUM, differs=differs)
    attacks = attack_reports([of_nothing("loss", np.random.default_rng(1))], units=own, plan=PLAN)
    verdict = decide(
        attacks, units=own, canaries=None, plan=PLAN, sets=[SetTest(**(test | change))]
    )
    assert verdict.outcome is outcome
    assert ("dataset-inference tells the set" in " ".join(verdict.reasons)) is (
        outcome is Outcome.LEAK
    )
    assert "and dataset-inference (Holm)" in verdict.false_alarm


@pytest.mark.long
def test_audits_with_set_tests_of_nothing_rarely_find_a_leak() -> None:
    rng, runs, leaks = np.random.default_rng(2), 200, 0
    for _ in range(runs):
        attacks = [of_nothing("loss", rng), of_nothing("pia", rng)]
        also = tuple(rng.random(2))
        adjusted = adjusted_together(attacks, units=units_of(NUM), also=also)
        sets = [
            SetTest(name=name, p_value=p, p_adjusted=q, placebo_inside=True, told_blindly=False)
            for name, p, q in zip(("dataset-inference", "extraction"), also, adjusted, strict=True)
        ]
        reports = attack_reports(attacks, units=units_of(NUM), plan=PLAN, also=also)
        verdict = decide(reports, units=units_of(NUM), canaries=None, plan=PLAN, sets=sets)
        leaks += verdict.outcome is Outcome.LEAK
    assert 0 < leaks / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
