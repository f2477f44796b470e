from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.heterogeneity import heterogeneity_of, label_counts, quantity_gini
from phoenix_secure.data.partition_schemes import dirichlet, iid


def by_the_book(labels: list[int], parts: list[list[int]], num_classes: int) -> tuple[float, ...]:
    """The definitions, term by term."""
    p = [
        [sum(labels[i] == c for i in part) / len(part) for c in range(num_classes)]
        for part in parts
    ]
    everyone = [i for part in parts for i in part]
    overall = [sum(labels[i] == c for i in everyone) / len(everyone) for c in range(num_classes)]

    def kl(a: list[float], b: list[float]) -> float:
        return sum(x * math.log2(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    pairs = []
    for j in range(len(p)):
        for k in range(j + 1, len(p)):
            middle = [(x + y) / 2 for x, y in zip(p[j], p[k], strict=True)]
            pairs.append(math.sqrt(max(0.0, (kl(p[j], middle) + kl(p[k], middle)) / 2)))
    variation = [sum(abs(x - y) for x, y in zip(q, overall, strict=True)) / 2 for q in p]
    effective = [math.exp(-sum(x * math.log(x) for x in q if x > 0)) for q in p]
    n = [len(part) for part in parts]
    gini = sum(abs(a - b) for a in n for b in n) / (2 * len(n) ** 2 * (sum(n) / len(n)))
    return (
        sum(pairs) / len(pairs) if pairs else 0.0,
        sum(variation) / len(variation),
        gini,
        *effective,
    )


@given(
    st.lists(st.integers(0, 4), min_size=12, max_size=60),
    st.integers(1, 5),
    st.integers(0, 10**6),
)
def test_every_figure_agrees_with_its_definition(
    labels: list[int], num_sites: int, seed: int
) -> None:
    parts = iid(len(labels), num_sites=num_sites, rng=np.random.default_rng(seed))
    found = heterogeneity_of(np.array(labels), parts, num_classes=5)
    expected = by_the_book(labels, [part.tolist() for part in parts], 5)
    assert np.allclose(
        [
            found.mean_pairwise_jensen_shannon,
            found.mean_total_variation,
            found.quantity_gini,
            *found.effective_classes_per_site,
        ],
        expected,
        atol=1e-7,
    )


def test_equal_sites_are_at_distance_zero() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    found = heterogeneity_of(labels, [np.array([0, 1, 2]), np.array([3, 4, 5])], num_classes=3)
    assert found.mean_pairwise_jensen_shannon == 0
    assert found.mean_total_variation == 0
    assert found.quantity_gini == 0
    assert found.quantity_ratio == 1
    assert np.allclose(found.effective_classes_per_site, 3)


def test_disjoint_classes_are_at_distance_one() -> None:
    labels = np.repeat([0, 1, 2], 4)
    parts = [np.arange(4 * k, 4 * k + 4) for k in range(3)]
    found = heterogeneity_of(labels, parts, num_classes=3)
    assert found.mean_pairwise_jensen_shannon == pytest.approx(1)
    assert found.mean_total_variation == pytest.approx(2 / 3)
    assert np.allclose(found.effective_classes_per_site, 1)


def test_skew_falls_as_alpha_grows() -> None:
    labels = np.repeat(np.arange(10), 500)
    figures = [
        heterogeneity_of(
            labels,
            dirichlet(labels, num_sites=10, alpha=alpha, rng=np.random.default_rng(0)),
            num_classes=10,
        )
        for alpha in (0.1, 1.0, 10.0, 1000.0)
    ]
    distances = [figure.mean_pairwise_jensen_shannon for figure in figures]
    assert distances == sorted(distances, reverse=True)  # type: ignore[type-var]
    assert distances[-1] is not None
    assert distances[-1] < 0.05


def test_sets_without_labels_have_quantity_figures_only() -> None:
    found = heterogeneity_of(None, [np.arange(3), np.arange(3, 4)], num_classes=0)
    assert found.label_distribution is None
    assert found.mean_pairwise_jensen_shannon is None
    assert found.mean_total_variation is None
    assert found.effective_classes_per_site == ()
    assert found.images_per_site == (3, 1)
    assert found.quantity_gini == 0.25
    assert found.quantity_ratio == 3


def test_counts_and_distribution_have_one_row_per_site() -> None:
    labels = np.array([0, 0, 2, 2])
    parts = [np.array([0, 1, 2]), np.array([3])]
    assert label_counts(labels, parts, num_classes=4).tolist() == [[2, 0, 1, 0], [0, 0, 1, 0]]
    found = heterogeneity_of(labels, parts, num_classes=4)
    assert found.label_distribution is not None
    assert np.allclose(found.label_distribution.sum(axis=1), 1)


def test_gini_is_bounded_by_one_site_holding_everything() -> None:
    assert quantity_gini([0] * 9 + [7]) == pytest.approx(0.9)
    assert quantity_gini([3, 3]) == 0


@pytest.mark.parametrize("sizes", [[], [0, 0], [-1, 2]])
def test_gini_refuses_sizes_without_meaning(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        quantity_gini(sizes)


def test_empty_sites_and_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="no empty site"):
        heterogeneity_of(None, [np.arange(3), np.arange(0)], num_classes=0)
    with pytest.raises(ValueError, match="at least one site"):
        heterogeneity_of(None, [], num_classes=0)
    with pytest.raises(ValueError, match="expected labels"):
        label_counts(np.array([5]), [np.array([0])], num_classes=5)
