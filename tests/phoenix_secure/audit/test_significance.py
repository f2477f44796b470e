"""One false-alarm rate over all attacks: exact tests, Holm, and simulated audits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from phoenix_secure.audit.significance import holm, low_fpr_p_value, rank_p_value


@pytest.mark.long
def test_low_fpr_p_value_equals_the_count_over_all_orders() -> None:
    scores = np.arange(9.0)[::-1]
    for chosen in combinations(range(9), 4):
        membership = np.isin(np.arange(9), chosen)
        ours = low_fpr_p_value(scores, membership=membership, target=0.2)

        def hits(rows) -> int:
            flags = np.isin(np.arange(9), rows)
            second = np.flatnonzero(~flags)[1]  # floor(5 x 0.2) = 1 false alarm is allowed
            return int(flags[:second].sum())

        orders = list(combinations(range(9), 4))
        slow = np.mean([hits(rows) >= hits(chosen) for rows in orders])
        assert ours == pytest.approx(slow)


def test_too_few_non_members_give_no_p_value() -> None:
    scores = np.arange(40.0)
    assert low_fpr_p_value(scores, membership=scores < 20, target=0.001) is None


def test_ties_never_help() -> None:
    membership = np.arange(40) < 20
    assert low_fpr_p_value(np.zeros(40), membership=membership, target=0.1) == 1.0
    assert rank_p_value(np.zeros(40), membership=membership) >= 0.5


def test_holm_is_never_above_bonferroni_and_keeps_the_order() -> None:
    p = np.random.default_rng(0).random(20).tolist()
    adjusted = holm(p)
    assert all(a <= min(1.0, 20 * q) + 1e-12 for a, q in zip(adjusted, p, strict=True))
    assert all(adjusted[i] <= adjusted[j] for i in range(20) for j in range(20) if p[i] <= p[j])


@pytest.mark.long
@pytest.mark.parametrize("num_audits", [400, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("correlation", [0.9, pytest.param(0.0, marks=pytest.mark.slow)])
def test_null_audits_raise_few_alarms(correlation: float, num_audits: int) -> None:
    """Five attacks, 100 + 100 records: "leak found" at a nominal 5 %, within two standard errors
    (1.1 % and 0.5 %)."""
    rng = np.random.default_rng(7)
    membership = np.arange(200) < 100
    alarms = 0
    for _ in range(num_audits):
        common = rng.standard_normal(200)
        p_values = []
        for _ in range(5):
            noise = rng.standard_normal(200)
            scores = correlation**0.5 * common + (1 - correlation) ** 0.5 * noise
            p_values.append(rank_p_value(scores, membership=membership))
            p_values.append(low_fpr_p_value(scores, membership=membership, target=0.03))
        alarms += min(holm(p_values)) <= 0.05
    standard_error = (0.05 * 0.95 / num_audits) ** 0.5
    assert alarms / num_audits <= 0.05 + 2 * standard_error
    assert alarms > 0 or correlation == 0
