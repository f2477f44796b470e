"""Arithmetic of a site's budget: composed, reserved, refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_secure.errors import BudgetExhausted
from phoenix_secure.federation.site.budget import (
    ALL_DATA,
    Reservation,
    data_budgets,
    require_fit,
    reservation_of,
)
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.events import PoissonSampledGaussian, SkellamSum
from phoenix_secure.privacy.ledger import Release

STEP = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=2.0, steps=5)
SITES = SkellamSum(num_words=10, l2_sensitivity=100.0, variance=250_000.0, releases=1)


def released(count: int, *, plan: str = "old", data: str = "a") -> list[Release]:
    return [
        Release(id=f"{plan}{number}", plan=plan, round_number=number, data=data, event=STEP)
        for number in range(1, count + 1)
    ]


def waiting(count: int, *, plan: str, data: str | None = None) -> Reservation:
    return Reservation(plan=plan, data=data, event=STEP, releases=count)


def spent(count: int) -> float:
    return epsilon_of([STEP] * count, delta=1e-5).value


def rows(releases, reservations, *, groups, total=None, added=None):
    found = data_budgets(
        releases, reservations, groups=groups, total=total, delta=1e-5, added=added
    )
    return {row.data: row for row in found}


def test_everything_on_one_data_set_is_composed_and_the_sum_stands_beside_it() -> None:
    added = waiting(4, plan="new")
    (row,) = rows(
        released(3),
        [waiting(2, plan="approved")],
        groups=[frozenset({"a"})],
        total=Budget(epsilon=5.0, delta=1e-5),
        added=added,
    ).values()
    assert (row.spent, row.reserved, row.added) == (spent(3), spent(2), spent(4))
    assert row.together == spent(9)
    assert row.sum_of_epsilons == pytest.approx(spent(3) + spent(2) + spent(4))
    assert row.together < row.sum_of_epsilons
    assert row.sum_of_deltas == pytest.approx(3e-5)
    assert row.left == pytest.approx(5.0 - row.together)
    assert row.adjacency == "add or remove one image"


def test_disjoint_data_sets_have_rows_of_their_own_and_one_row_for_all() -> None:
    found = rows(
        [*released(3), *released(2, plan="other", data="b")],
        [waiting(1, plan="begun", data="b"), waiting(1, plan="not begun")],
        groups=[frozenset({"a"}), frozenset({"b"})],
    )
    assert set(found) == {"a", "b", ALL_DATA}
    # A plan that has not begun may be of either.
    assert found["a"].together == spent(3 + 1)
    assert found["b"].together == spent(2 + 1 + 1)
    assert found[ALL_DATA].together == spent(5 + 2)
    assert found["a"].left is None


def test_units_are_never_added_up() -> None:
    site = Reservation(plan="s", data=None, event=SITES, releases=2)
    found = data_budgets(released(1), [site], groups=[frozenset({"a"})], total=None, delta=1e-5)
    assert [row.unit for row in found] == ["record", "site"]
    assert found[1].together == epsilon_of([SITES, SITES], delta=1e-5).value
    with pytest.raises(BudgetExhausted, match="another unit"):
        require_fit(released(1), [], site, total=Budget(epsilon=99.0, delta=1e-5))


def test_a_plan_that_does_not_fit_beside_what_is_spent_and_reserved_is_refused() -> None:
    total = Budget(epsilon=spent(9), delta=1e-5)
    require_fit(released(3), [waiting(2, plan="b")], waiting(4, plan="c"), total=total)
    with pytest.raises(BudgetExhausted, match=r"above the site's .* \(spent .* reserved by"):
        require_fit(released(3), [waiting(2, plan="b")], waiting(5, plan="c"), total=total)
    with pytest.raises(BudgetExhausted):
        require_fit(released(4), [waiting(2, plan="b")], waiting(4, plan="c"), total=total)
    require_fit(released(400), [], waiting(400, plan="c"), total=None)


def test_what_a_plan_released_is_no_longer_reserved() -> None:
    releases = released(3, plan="p")
    left = reservation_of("p", event=STEP, max_releases=5, releases=releases)
    assert (left.releases, left.data, left.has_begun) == (2, "a", True)
    assert reservation_of("p", event=STEP, max_releases=3, releases=releases).events == ()
    fresh = reservation_of("q", event=STEP, max_releases=5, releases=releases)
    assert (fresh.releases, fresh.has_begun) == (5, False)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 6))
def test_the_order_in_which_plans_are_approved_does_not_matter(done, first, second) -> None:
    total = Budget(epsilon=spent(9), delta=1e-5)

    def fits(kept: list[Reservation], added: Reservation) -> bool:
        try:
            require_fit(released(done), kept, added, total=total)
        except BudgetExhausted:
            return False
        return True

    one, two = waiting(first, plan="1"), waiting(second, plan="2")
    assert fits([one], two) == fits([two], one) == (done + first + second <= 9)


def test_persons_have_a_row_of_their_own_over_all_data() -> None:
    """Two data sets that share no image may share a person."""
    of_persons = dataclasses.replace(STEP, unit="group")
    releases = [
        dataclasses.replace(each, event=of_persons)
        for each in [*released(3), *released(2, plan="other", data="b")]
    ]
    apart = [frozenset({"a"}), frozenset({"b"})]
    (row,) = data_budgets(releases, [], groups=apart, total=None, delta=1e-5)
    assert (row.data, row.unit) == (ALL_DATA, "group")
    assert row.adjacency == "add or remove all images of one person"
    assert row.together == spent(5)
    asked = Reservation(plan="p", data=None, event=of_persons, releases=1)
    with pytest.raises(BudgetExhausted, match=r"of images, of persons and of whole sites"):
        require_fit(released(1), [], asked, total=Budget(epsilon=100.0, delta=1e-5))
