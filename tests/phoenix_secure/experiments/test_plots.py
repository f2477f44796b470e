"""Plots and their arithmetic."""

from __future__ import annotations

import io
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.experiments.plots import (
    draw_plots,
    figures_of,
    log_ticks,
    pareto_front,
    series_name,
)
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


@given(st.floats(1e-6, 1e6), st.floats(1.0, 1e6))
def test_ticks_lie_inside_and_their_labels_are_their_values(low: float, factor: float) -> None:
    high = low * factor
    ticks = log_ticks(low, high)
    assert low <= ticks[0] <= ticks[-1] <= high
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 13
    assert len(ticks) > 1 or low == high
    assert all(float(f"{tick:.3g}") == pytest.approx(tick, rel=0.006) for tick in ticks)


def figure(rows: list[dict[str, object]], name: str = "kid") -> tuple[list[str], list[str]]:
    """Labels of the legend, and of the ticks below."""
    drawn = figures_of(rows, axes=["how"], skew="how")[name][1]
    assert drawn is not None
    drawn.canvas.draw()
    legend = [text.get_text() for text in drawn.legends[0].get_texts()]
    return legend, [text.get_text() for text in drawn.axes[0].get_xticklabels()]


def seeds_of(rows: list[dict[str, object]], name: str = "kid") -> str:
    """The legend's entry of the one curve."""
    return next(text for text in figure(rows, name)[0] if "seed" in text)


def test_equal_figures_of_all_seeds_are_drawn() -> None:
    # The mean of three times 0.7 is less than 0.7 by its last bit.
    assert "accuracy" in draw_plots([row()] * 3, axes=["how"], skew=None)


def test_the_legend_counts_the_seeds_of_every_point() -> None:
    rows = [row(epsilon=e, kid=k) for e, k in ((1.0, 5.0), (1.0, 4.0), (1.0, 6.0), (3.0, 3.0))]
    assert seeds_of(rows).endswith("1 to 3 seeds")
    assert seeds_of(rows[:3]).endswith(", 3 seeds")
    assert seeds_of(rows[3:]).endswith(", 1 seed")
    for name in ("bytes", "heterogeneity"):
        assert seeds_of(rows, name)


def test_the_axis_of_epsilon_has_round_ticks_and_a_place_for_no_guarantee() -> None:
    rows = [row(epsilon=e) for e in (0.97, 1.9, 4.1, 8.2, 9.6)]
    assert figure(rows)[1] == ["1", "2", "5"]
    assert figure([*rows, row(epsilon=None)])[1] == ["1", "2", "5", "no guarantee"]
    assert figure([row(epsilon=None)])[1] == ["no guarantee"]
    assert figure([row(epsilon=2.5)])[1] == ["2.5"]


def test_no_front_is_drawn_of_one_point_nor_through_runs_without_a_guarantee() -> None:
    falling = [row(epsilon=1.0, kid=5.0), row(epsilon=3.0, kid=3.0)]
    rising = [row(epsilon=1.0, kid=3.0), row(epsilon=3.0, kid=5.0)]
    free = row(epsilon=None, kid=0.1)
    assert "Pareto front" in figure(falling)[0]
    assert "Pareto front" not in figure(rising)[0]
    assert "Pareto front" not in figure([*rising, free])[0]
    assert "Pareto front" not in figure([falling[0]])[0]
    drawn = figures_of([*falling, free], axes=["how"], skew=None)["kid"][1]
    assert drawn is not None
    (front,) = [line for line in drawn.axes[0].lines if line.get_label() == "Pareto front"]
    assert list(front.get_xdata()) == [1.0, 3.0]


def test_an_axis_says_whether_it_is_logarithmic() -> None:
    for kid, word in ((3.0, "logarithmic"), (-0.2, "linear")):
        for name in ("kid", "bytes", "heterogeneity"):
            drawn = figures_of([row(kid=kid)], axes=["how"], skew="how")[name][1]
            assert drawn is not None
            assert word in drawn.axes[0].get_ylabel()
            assert drawn.axes[0].get_yscale() == ("log" if word == "logarithmic" else "linear")
