"""Plots and their arithmetic."""

from __future__ import annotations

import io
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.experiments.plots import draw_plots, pareto_front, series_name
from phoenix_secure.privacy.ceiling import tpr_ceiling


def row(**changes: object) -> dict[str, object]:
    return {
        "point": "p",
        "status": "done",
        "label.how": "fedavg",
        "unit": "record",
        "adjacency": "add/remove one",
        "epsilon": 1.0,
        "delta": 1e-5,
        "kid": 3.0,
        "accuracy_synthetic": 0.7,
        "accuracy_real": 0.9,
        "audit_auc": 0.52,
        "audit_auc_low": 0.49,
        "audit_auc_high": 0.55,
        "audit_tpr_1": 0.01,
        "audit_tpr_1_low": 0.003,
        "audit_tpr_1_high": 0.03,
        "bytes_up": 1e6,
        "bytes_down": 1e6,
        **changes,
    }


@given(st.floats(0.01, 20), st.floats(1e-9, 1e-3), st.floats(1e-4, 0.5))
def test_ceiling_is_the_best_test_between_two_mechanisms(
    epsilon: float, delta: float, fpr: float
) -> None:
    # The pair that attains (epsilon, delta)-DP: with delta the input shows, else randomised
    # response. Its likelihood ratios are infinity, e^epsilon, e^-epsilon, 0.
    p = math.exp(epsilon) / (1 + math.exp(epsilon))
    q = 1 - p
    outcomes = [
        (delta, 0.0),
        ((1 - delta) * p, (1 - delta) * q),
        ((1 - delta) * q, (1 - delta) * p),
    ]
    tpr, left = 0.0, fpr
    for under_member, under_other in outcomes:
        if under_other == 0:
            tpr += under_member
            continue
        share = min(1.0, left / under_other)
        tpr += share * under_member
        left -= share * under_other
    assert tpr_ceiling(fpr, epsilon=epsilon, delta=delta) == pytest.approx(min(1.0, tpr), rel=1e-6)


def test_ceiling_without_privacy_is_one_and_with_perfect_privacy_is_guessing() -> None:
    assert tpr_ceiling(0.01, epsilon=1000.0, delta=1e-5) == 1
    assert tpr_ceiling(0.01, epsilon=1e-12, delta=0.0) == pytest.approx(0.01)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_pareto_front_holds_exactly_the_costs_at_which_the_loss_falls(
    points: list[tuple[int, int]],
) -> None:
    front = pareto_front(points)
    best = {x: min(loss for cost, loss in points if cost <= x) for x, _ in points}
    assert all(best[x] == y for x, y in front)
    for x, y in points:
        assert any(fx <= x and fy <= y for fx, fy in front)
    for one, other in itertools.pairwise(front):
        assert one[0] < other[0]
        assert one[1] > other[1]


def test_series_of_other_guarantees_have_other_names() -> None:
    rows = [
        row(),
        row(delta=1e-6),
        row(unit="site"),
        row(adjacency="replace one"),
        row(epsilon=None),
    ]
    assert len({series_name(r, axes=["how"]) for r in rows}) == 5
    assert series_name(row(epsilon=3.0), axes=["how"]) == series_name(row(), axes=["how"])


def test_all_plots_are_drawn_and_readable() -> None:
    rows = [row(epsilon=e, kid=k) for e, k in ((1.0, 5.0), (3.0, 3.0), (10.0, -0.2), (None, 1.0))]
    rows.append(row(status="failed", kid=None))
    drawn = draw_plots(rows, axes=["how"], skew="how")
    assert set(drawn) == {"kid", "accuracy", "auc", "tpr", "heterogeneity", "bytes"}
    for _, png in drawn.values():
        assert Image.open(io.BytesIO(png)).size[0] > 500


def test_nothing_measured_gives_no_plot() -> None:
    assert draw_plots([row(status="failed")], axes=["how"], skew=None) == {}
    only_kid = row(accuracy_synthetic=None, audit_auc=None, audit_tpr_1=None)
    assert set(draw_plots([only_kid], axes=["how"], skew=None)) == {"kid", "bytes"}
