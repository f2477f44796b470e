"""The cost model: bytes are linear in what it says, and rounds that were not fitted follow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def cost_model() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("cost_model", BENCHMARKS / "cost_model.py")
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return found


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
