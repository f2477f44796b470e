"""One model under two plans: signed over the same sites, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.signed_models import SignedModels, parameters_hash


def opened(path: Path) -> SignedModels:
    return SignedModels.open(path / "signed-models.jsonl")


def test_another_plan_may_sign_the_same_sites_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert opened(tmp_path).sign(model="m", plan="a" * 64, survivors="all")
    again = opened(tmp_path)  # after a restart
    assert again.sign(model="m", plan="b" * 64, survivors="all")
    assert not again.sign(model="m", plan="c" * 64, survivors="fewer")
    assert "with another seed" in caplog.text
    assert again.sign(model="n", plan="c" * 64, survivors="fewer")


def test_within_one_plan_the_record_of_the_plan_decides(tmp_path: Path) -> None:
    """A round that was given up leaves its model to the next one, over the sites that are left."""
    models = opened(tmp_path)
    assert models.sign(model="m", plan="a" * 64, survivors="all")
    assert models.sign(model="m", plan="a" * 64, survivors="fewer")
    assert not models.sign(model="m", plan="b" * 64, survivors="all")


def test_nothing_is_recorded_for_a_signature_that_is_refused(tmp_path: Path) -> None:
    models = opened(tmp_path)
    records = {}
    for plan in ("a", "b"):
        SiteRecord.create(tmp_path / plan)
        records[plan] = SiteRecord(tmp_path / plan, plan=plan, others=models)

    def sign(plan: str, *survivors: str, number: int = 1, model: str = "start") -> bool:
        return records[plan].sign(
            number,
            training_round=number,
            model_hash=bytes([number]) * 32,
            survivors=survivors,
            parameters=model,
        )

    assert sign("a", "x", "y")
    assert not sign("b", "x")
    assert records["b"].last_round == -1
    assert sign("b", "x", "y")
    size = (tmp_path / "signed-models.jsonl").stat().st_size
    assert not sign("b", "x", model="other")  # a promise of the plan itself comes first
    assert (tmp_path / "signed-models.jsonl").stat().st_size == size
    assert sign("b", "x", number=2, model="next")


def test_a_model_is_its_parameters() -> None:
    x = np.arange(4, dtype=np.float32)
    y = x.copy()
    y[1] = np.nextafter(y[1], np.float32(2))
    assert parameters_hash(x) == parameters_hash(x[::1]) != parameters_hash(y)
