"""The cost model: bytes are linear in what it says, and rounds that were not fitted follow."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from benchmark_modules import benchmark_module


@pytest.fixture(scope="module")
def cost_model() -> Iterator[ModuleType]:
    with benchmark_module("cost_model") as found:
        yield found


def test_bytes_of_an_unseen_round_follow_from_those_of_smaller_ones(
    cost_model: ModuleType,
) -> None:
    seen = [cost_model.measure(n, d=d, vanish=0) for n in (5, 7, 9) for d in (50, 400)]
    unseen = cost_model.measure(13, d=900, vanish=0.1)
    assert (unseen.k, unseen.gone) == (12, 1)
    for quantity in ("up", "down"):
        coefficients = cost_model.fit(seen, quantity)
        expected = cost_model.predicted(unseen, quantity, coefficients)
        assert expected == pytest.approx(getattr(unseen, quantity), rel=0.05)
    assert cost_model.fit(seen, "up")[-1] == pytest.approx(cost_model.WORD_BYTES, rel=1e-3)
    assert all(m.site_s > 0 and m.server_s > 0 for m in seen)
