from __future__ import annotations

import numpy as np
import pytest

from attacks.selection import choose
from attacks.statistics.auc import auc


def test_the_choice_is_the_strongest_setting_with_its_direction(rng: np.random.Generator) -> None:
    membership = np.stack([rng.permutation(200) < 100 for _ in range(3)])
    noise = rng.normal(0, 1, membership.shape)
    scores = {50: noise + 0.3 * membership, 100: noise - 1.5 * membership, 150: noise}
    choice = choose(scores, membership=membership, chosen_on="3 shadow models")
    assert (choice.setting, choice.sign, choice.chosen_on) == (100, -1, "3 shadow models")
    target = rng.permutation(200) < 100
    fresh = rng.normal(0, 1, 200) - 1.5 * target
    assert auc(choice.apply(fresh), membership=target).value > 0.75


def test_aucs_are_averaged_and_not_pooled(rng: np.random.Generator) -> None:
    # Each shadow is separated perfectly, on a scale of its own.
    membership = np.stack([np.arange(20) < 10, np.arange(20) < 10])
    rows = np.stack([np.arange(20)[::-1] + 0.0, np.arange(20)[::-1] + 1000.0])
    assert choose({1: rows}, membership=membership, chosen_on="shadows").aucs[1] == 1.0


@pytest.mark.long
def test_choosing_the_best_of_many_on_the_target_reports_a_leak_that_is_not_there() -> None:
    rng = np.random.default_rng(0)
    membership = np.arange(100) < 50
    on_target, on_shadow = [], []
    for _ in range(30):
        target, shadow = rng.normal(0, 1, (2, 20, 100))
        cheated = choose(dict(enumerate(target)), membership=membership, chosen_on="the target")
        honest = choose(dict(enumerate(shadow)), membership=membership, chosen_on="a shadow")
        for choice, found in ((cheated, on_target), (honest, on_shadow)):
            scores = choice.apply(target[choice.setting])
            found.append(auc(scores, membership=membership).value)
    assert np.mean(on_target) > 0.58
    assert abs(np.mean(on_shadow) - 0.5) < 3 * np.std(on_shadow) / np.sqrt(30)


def test_a_choice_without_settings_source_or_fitting_shapes_is_refused() -> None:
    membership = np.array([True, False])
    with pytest.raises(ValueError, match="at least one setting"):
        choose({}, membership=membership, chosen_on="shadows")
    with pytest.raises(ValueError, match="never the target"):
        choose({1: [0.0, 1.0]}, membership=membership, chosen_on=" ")
    with pytest.raises(ValueError, match="against membership"):
        choose({1: [0.0, 1.0, 2.0]}, membership=membership, chosen_on="shadows")
