from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from attacks import lira, rmia
from attacks.shadows import ShadowSignals, complementary_pairs, log_loss_signal
from attacks.statistics.auc import auc


@given(half=st.integers(1, 30), num_pairs=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_every_record_is_in_for_half_the_shadows_of_equal_size(
    half: int, num_pairs: int, seed: int
) -> None:
    rows = complementary_pairs(2 * half, num_pairs=num_pairs, rng=np.random.default_rng(seed))
    assert rows.shape == (2 * num_pairs, 2 * half)
    assert (rows.sum(axis=0) == num_pairs).all()
    assert (rows.sum(axis=1) == half).all()
    assert (rows[0::2] == ~rows[1::2]).all()


def test_an_odd_number_of_records_has_no_equal_halves(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="even"):
        complementary_pairs(7, num_pairs=2, rng=rng)
    with pytest.raises(ValueError, match="num_pairs"):
        complementary_pairs(8, num_pairs=0, rng=rng)


@pytest.mark.parametrize("bad", [[0.0], [-1.0], [np.nan], [np.inf]])
def test_a_loss_without_a_logarithm_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        log_loss_signal(bad)


@pytest.fixture
def game(rng: np.random.Generator):
    """300 records of very different difficulty, 8 shadows and a target; losses drop for members."""
    n = 300
    inclusion = complementary_pairs(n, num_pairs=4, rng=rng)
    membership = complementary_pairs(n, num_pairs=1, rng=rng)[0]
    difficulty = rng.normal(0, 1, n)

    def losses(included: np.ndarray) -> np.ndarray:
        return np.exp(difficulty - 0.5 * included + rng.normal(0, 0.15, included.shape))

    population = rng.normal(0, 1, 200)
    return {
        "target": losses(membership),
        "shadows": losses(inclusion),
        "inclusion": inclusion,
        "membership": membership,
        "population": np.exp(population + rng.normal(0, 0.15, 200)),
        "population_shadows": np.exp(population + rng.normal(0, 0.15, (8, 200))),
    }


def pooled(values: list[list[float]]) -> float:
    squares = sum(sum((v - np.mean(group)) ** 2 for v in group) for group in values)
    return float(np.sqrt(squares / sum(len(group) - 1 for group in values)))


@pytest.mark.parametrize("own", [False, True])
def test_lira_is_a_likelihood_ratio_of_two_normals(game, own: bool) -> None:
    signal, signals = log_loss_signal(game["target"]), log_loss_signal(game["shadows"])
    shadows = ShadowSignals(signals=signals, inclusion=game["inclusion"])
    n, mask = len(signal), game["inclusion"]
    ins = [[s for s, i in zip(signals[:, k], mask[:, k], strict=True) if i] for k in range(n)]
    outs = [[s for s, i in zip(signals[:, k], mask[:, k], strict=True) if not i] for k in range(n)]
    all_in, all_out = pooled(ins), pooled(outs)
    slow, slow_offline = [], []
    for k in range(n):
        sd_in = np.std(ins[k], ddof=1) if own else all_in
        sd_out = np.std(outs[k], ddof=1) if own else all_out
        slow.append(
            norm.logpdf(signal[k], np.mean(ins[k]), sd_in)
            - norm.logpdf(signal[k], np.mean(outs[k]), sd_out)
        )
        slow_offline.append((signal[k] - np.mean(outs[k])) / sd_out)
    found = lira.score(signal, shadows=shadows, own_variance=own)
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-9)
    found = lira.score_offline(signal, shadows=shadows, own_variance=own)
    np.testing.assert_allclose(found, slow_offline, rtol=1e-6, atol=1e-9)


def test_calibrated_attacks_beat_the_plain_loss(game) -> None:
    membership = game["membership"]
    signals = ShadowSignals(signals=log_loss_signal(game["shadows"]), inclusion=game["inclusion"])
    online = lira.score(log_loss_signal(game["target"]), shadows=signals)
    assert auc(-game["target"], membership=membership).value < 0.7
    assert auc(online, membership=membership).value > 0.95


@pytest.fixture
def joint(rng: np.random.Generator):
    """A game with three correlated signals per record, 4 pairs."""
    n = 400
    inclusion = complementary_pairs(n, num_pairs=4, rng=rng)
    membership = complementary_pairs(n, num_pairs=1, rng=rng)[0]
    level = rng.normal(0, 2, (n, 3))
    mixing = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [0.3, 0.2, 0.5]])

    def draw(included: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal((*included.shape, 3)) @ mixing.T
        return level + included[..., None] * np.array([0.8, 0.9, 0.7]) + noise

    return draw(membership), draw(inclusion), inclusion, membership


def test_the_joint_score_is_the_discriminant_of_levels_step_and_covariance(joint) -> None:
    target, rows, inclusion, _ = joint
    n = len(target)
    ins = [rows[inclusion[:, i], i] for i in range(n)]
    outs = [rows[~inclusion[:, i], i] for i in range(n)]
    step = np.mean([a.mean(axis=0) - b.mean(axis=0) for a, b in zip(ins, outs, strict=True)], 0)
    covariance, freedom = np.zeros((3, 3)), 0
    for group in [*ins, *outs]:
        for row in group:
            covariance += np.outer(row - group.mean(axis=0), row - group.mean(axis=0))
        freedom += len(group) - 1
    inverse = np.linalg.inv(covariance / freedom)
    slow = []
    for i in range(n):
        level = np.mean([*(ins[i] - step), *outs[i]], axis=0)
        slow.append((target[i] - level - step / 2) @ inverse @ step)
    found = lira.score_joint(target, shadow_signals=rows, inclusion=inclusion)
    np.testing.assert_allclose(found, slow, rtol=1e-4, atol=1e-9)


def test_joint_signals_beat_the_best_single_one_with_few_shadows(joint) -> None:
    target, rows, inclusion, membership = joint
    single = max(
        auc(
            lira.score(
                target[:, q],
                shadows=ShadowSignals(signals=rows[:, :, q], inclusion=inclusion),
            ),
            membership=membership,
        ).value
        for q in range(3)
    )
    found = lira.score_joint(target, shadow_signals=rows, inclusion=inclusion)
    assert auc(found, membership=membership).value > single + 0.02


def test_joint_signals_that_repeat_or_do_not_fit_are_refused(joint) -> None:
    target, rows, inclusion, _ = joint
    twice = {"shadow_signals": rows[:, :, [0, 0]], "inclusion": inclusion}
    with pytest.raises(ValueError, match="repeat others"):
        lira.score_joint(target[:, [0, 0]], **twice)
    with pytest.raises(ValueError, match=r"\(N, Q\)"):
        lira.score_joint(target[:, :2], shadow_signals=rows, inclusion=inclusion)
    with pytest.raises(ValueError, match="more pairs"):
        lira.score_joint(target, shadow_signals=rows[:2], inclusion=inclusion[:2])
    with pytest.raises(ValueError, match="complementary pairs"):
        lira.score_joint(target, shadow_signals=rows[:1], inclusion=inclusion[:1])
    with pytest.raises(ValueError, match="NaN"):
        lira.score_joint(np.full_like(target, np.nan), shadow_signals=rows, inclusion=inclusion)


def test_few_shadows_share_one_variance_and_many_have_their_own(rng: np.random.Generator) -> None:
    for num_pairs, own in ((4, False), (32, True)):
        inclusion = complementary_pairs(20, num_pairs=num_pairs, rng=rng)
        signals = rng.normal(0, rng.uniform(0.5, 2, 20), inclusion.shape)
        shadows = ShadowSignals(signals=signals, inclusion=inclusion)
        target = rng.normal(0, 1, 20)
        np.testing.assert_array_equal(
            lira.score(target, shadows=shadows),
            lira.score(target, shadows=shadows, own_variance=own),
        )


def test_records_without_in_shadows_are_refused_not_nan(rng: np.random.Generator) -> None:
    inclusion = np.zeros((4, 10), dtype=bool)
    inclusion[:2, 1:] = True
    shadows = ShadowSignals(signals=rng.normal(0, 1, (4, 10)), inclusion=inclusion)
    with pytest.raises(ValueError, match=r"1 record.*complementary pairs"):
        lira.score(np.zeros(10), shadows=shadows)
    assert np.isfinite(lira.score_offline(np.zeros(10), shadows=shadows)).all()


def test_shadows_that_are_copies_are_refused() -> None:
    inclusion = np.array([[True, False], [False, True]] * 2)
    shadows = ShadowSignals(signals=np.ones((4, 2)), inclusion=inclusion)
    with pytest.raises(ValueError, match="copies"):
        lira.score(np.zeros(2), shadows=shadows)
    with pytest.raises(ValueError, match="copies"):
        rmia.temperature_from_shadows(shadows)


@pytest.mark.parametrize(
    ("signals", "inclusion", "says"),
    [
        (np.zeros(3), np.zeros(3, dtype=bool), r"\(S, N\)"),
        (np.zeros((2, 3)), np.zeros((2, 2), dtype=bool), "shape"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "booleans"),
        (np.full((2, 3), np.nan), np.zeros((2, 3), dtype=bool), "NaN"),
    ],
)
def test_signals_of_a_wrong_kind_are_refused(signals, inclusion, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ShadowSignals(signals=signals, inclusion=inclusion)


@pytest.mark.parametrize("bad", [np.zeros(2), np.zeros((1, 3)), np.array([0, np.nan, 0])])
def test_a_target_signal_that_does_not_fit_is_refused(bad: np.ndarray) -> None:
    shadows = ShadowSignals(signals=np.zeros((2, 3)), inclusion=np.zeros((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="signal"):
        shadows.check_target(bad)


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_rmia_is_the_share_of_dominated_population_records(game, mode: str, gamma: float) -> None:
    c, a = 0.7, 0.3
    p = np.exp(-c * game["target"])
    shadow_p = np.exp(-c * game["shadows"])
    z, shadow_z = np.exp(-c * game["population"]), np.exp(-c * game["population_shadows"])
    counts = []
    for k in range(len(p)):
        inside = game["inclusion"][:, k]
        out = shadow_p[~inside, k].mean()
        if mode == "online":
            marginal = (shadow_p[inside, k].mean() + out) / 2
        else:
            marginal = ((1 + a) * out + (1 - a)) / 2
        ratio = p[k] / marginal
        beaten = 0
        for j in range(len(z)):
            marginal_z = shadow_z[:, j].mean()
            if mode == "offline":
                marginal_z = ((1 + a) * marginal_z + (1 - a)) / 2
            beaten += ratio / (z[j] / marginal_z) >= gamma
        counts.append(beaten)
    shadows = ShadowSignals(signals=game["shadows"], inclusion=game["inclusion"])
    arguments = {
        "shadow_losses": shadows,
        "population_losses": game["population"],
        "population_shadow_losses": game["population_shadows"],
        "temperature": c,
        "gamma": gamma,
    }
    if mode == "online":
        found = rmia.score(game["target"], **arguments)
    else:
        found = rmia.score_offline(game["target"], **arguments, offline_a=a)
    np.testing.assert_array_equal(np.floor(found * (len(z) + 1)), counts)
    assert len(np.unique(found)) > len(set(counts))


def test_rmia_ranks_losses_whose_likelihood_underflows(game) -> None:
    shadows = ShadowSignals(signals=1e4 * game["shadows"], inclusion=game["inclusion"])
    c = rmia.temperature_from_shadows(shadows)
    found = rmia.score(
        1e4 * game["target"],
        shadow_losses=shadows,
        population_losses=1e4 * game["population"],
        population_shadow_losses=1e4 * game["population_shadows"],
        temperature=c,
    )
    assert np.isfinite(found).all()
    assert auc(found, membership=game["membership"]).value > 0.9
    # Without logarithms nearly every likelihood is 0, a tie, at a temperature of 1.
    assert np.mean(np.exp(-1e4 * game["target"]) == 0) > 0.9


def test_rmia_refuses_signals_that_are_no_losses(game) -> None:
    shadows = ShadowSignals(signals=-game["shadows"], inclusion=game["inclusion"])
    arguments = {
        "population_losses": game["population"],
        "population_shadow_losses": game["population_shadows"],
    }
    with pytest.raises(ValueError, match=">= 0"):
        rmia.score(-game["target"], shadow_losses=shadows, temperature=1.0, **arguments)
    right = ShadowSignals(signals=game["shadows"], inclusion=game["inclusion"])
    for wrong, says in (
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1.0, "gamma": 0.0}, "gamma"),
        ({"temperature": 1.0, "population_losses": game["population"][:3]}, "population"),
    ):
        with pytest.raises(ValueError, match=says):
            rmia.score(game["target"], shadow_losses=right, **{**arguments, **wrong})
    with pytest.raises(ValueError, match="offline_a"):
        rmia.score_offline(
            game["target"], shadow_losses=right, temperature=1.0, offline_a=1.1, **arguments
        )
