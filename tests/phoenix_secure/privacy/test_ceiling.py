"""The ceiling of true positives against the definition, and randomised response reaches it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.privacy.ceiling import tpr_ceiling


@given(fpr=st.floats(0, 1), epsilon=st.floats(0, 8), delta=st.floats(0, 1))
def test_the_ceiling_is_the_largest_rate_that_the_definition_allows(
    fpr: float, epsilon: float, delta: float
) -> None:
    """P[yes | in] <= e^eps P[yes | out] + delta, and likewise for "no" with in and out swapped."""
    found = tpr_ceiling(fpr, epsilon=epsilon, delta=delta)
    growth, slack = math.exp(epsilon), 1e-5
    assert fpr <= found <= 1

    def allowed(tpr: float) -> bool:
        return tpr <= growth * fpr + delta and 1 - fpr <= growth * (1 - tpr) + delta

    assert allowed(found - slack) or found == fpr
    assert found + slack > 1 or not allowed(found + slack)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_randomised_response_reaches_it(epsilon: float) -> None:
    lie = 1 / (1 + math.exp(epsilon))
    assert tpr_ceiling(lie, epsilon=epsilon, delta=0.0) == pytest.approx(1 - lie)


def test_a_huge_epsilon_allows_everything() -> None:
    assert tpr_ceiling(1e-9, epsilon=1e6, delta=0.0) == 1.0
