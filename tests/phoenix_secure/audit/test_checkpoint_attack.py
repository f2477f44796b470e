"""The attack on a run's checkpoints: what it computes, and that it finds nothing in nothing."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.audit.checkpoint_attack import attack_on_losses
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.roles import Group, Roles
from phoenix_secure.audit.scoring import Placebos, Scored, score_attack
from phoenix_secure.audit.significance import rank_p_value
from phoenix_secure.rng import SeedTree

NUM = 60  # images of the evaluation group, half of them members; as many in the tuning split


def attacked(*, effect: float, seed: int) -> tuple[Scored, np.ndarray]:
    """Images of unlike difficulty, whose losses fall from model to model, of members by more."""
    rng = np.random.default_rng(seed)
    membership = np.arange(NUM) < NUM // 2
    hard = rng.normal(1, 0.3, 2 * NUM)
    fall = 0.1 + effect * np.tile(membership, 2) + rng.normal(0, 0.05, 2 * NUM)
    table = {t: hard[:, None] - fall[:, None] * np.arange(3) / 2 for t in (10, 20)}
    # An image says which it is, so that the losses of any part of a group can be looked up.
    images = np.arange(2 * NUM, dtype=np.float32).reshape(-1, 1, 1, 1)

    def group(rows: np.ndarray) -> Group:
        return Group(records=Records(images=images[rows]), membership=membership)

    roles = Roles(
        choice=group(np.arange(NUM)),
        evaluation=group(np.arange(NUM, 2 * NUM)),
        calibration=None,
        members=np.flatnonzero(membership),
        non_members=np.flatnonzero(~membership),
        choice_source="",
    )
    attack = attack_on_losses(
        lambda x, t: table[t][x.images.ravel().astype(int)], steps=sorted(table)
    )
    placebos = Placebos.draw(roles, seeds=SeedTree(seed))
    return score_attack(attack, roles=roles, placebos=placebos, model=None), membership


def test_settings_are_the_mean_and_the_fall_at_each_level() -> None:
    losses = np.array([[3.0, 2.0, 1.0], [3.0, 3.0, 3.0]])
    attack = attack_on_losses(lambda x, t: losses * t, steps=[1, 2])
    x = Records(images=np.zeros((2, 1, 1, 1), np.float32))
    assert attack.settings == ("mean, t=1", "mean, t=2", "fall, t=1", "fall, t=2")
    found = attack.scores(x)
    assert {name: tuple(scores) for name, scores in found.items()} == {
        "mean, t=1": (-2, -3),
        "mean, t=2": (-4, -6),
        "fall, t=1": (2, 0),
        "fall, t=2": (4, 0),
    }
    for name, scores in found.items():
        assert np.array_equal(attack.score(x, name), scores)


def test_the_fall_is_chosen_where_images_differ_in_difficulty() -> None:
    found, membership = attacked(effect=0.15, seed=0)
    assert found.setting.startswith("fall")
    assert found.sign == 1
    assert rank_p_value(found.scores, membership=membership) < 1e-6


@pytest.mark.long
def test_losses_that_know_nothing_rarely_raise_an_alarm() -> None:
    runs = 200
    alarms = 0
    for seed in range(runs):
        found, membership = attacked(effect=0, seed=seed)
        alarms += rank_p_value(found.scores, membership=membership) <= 0.05
    assert 0 < alarms / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.parametrize("setting", ["fall, t=3", "loss"])
def test_a_setting_that_was_not_offered_is_an_error(setting: str) -> None:
    attack = attack_on_losses(lambda x, t: np.zeros((1, 2)), steps=[1])
    with pytest.raises(KeyError):
        attack.score(Records(images=np.zeros((1, 1, 1, 1), np.float32)), setting)
