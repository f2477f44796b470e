from __future__ import annotations

import numpy as np
import pytest

from attacks import denoising_loss, pia, rediffuse, secmi, sima
from attacks.federated.dataset_inference import infer, record_features


@pytest.mark.slow
def test_the_features_are_the_scores_of_the_single_attacks(overfitted, alpha_bar) -> None:
    x, eps = overfitted.members[:5], overfitted.eps
    found = record_features(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        timesteps=[20, 40],
        interval=10,
        rng=np.random.default_rng(3),
    )
    assert found.shape == (5, 12)
    rng = np.random.default_rng(3)
    slow = [
        *denoising_loss.losses(
            x, eps=eps, alpha_bar=alpha_bar, timesteps=[20, 40], num_noises=4, rng=rng
        ).T
    ]
    for t in (20, 40):
        slow += [
            secmi.score(x, eps=eps, alpha_bar=alpha_bar, t=t, interval=10),
            pia.score(x, eps=eps, alpha_bar=alpha_bar, t=t),
            pia.score(x, eps=eps, alpha_bar=alpha_bar, t=t, normalized=True),
            sima.score(x, eps=eps, t=t),
            rediffuse.score(
                x, eps=eps, alpha_bar=alpha_bar, t=t, interval=10, num_variations=2, rng=rng
            ),
        ]
    np.testing.assert_allclose(found, np.stack(slow, axis=1))


@pytest.mark.slow
def test_a_site_whose_data_was_used_is_found_and_an_unused_one_is_not(
    overfitted, alpha_bar
) -> None:
    def features(x: np.ndarray) -> np.ndarray:
        return record_features(
            x,
            eps=overfitted.eps,
            alpha_bar=alpha_bar,
            timesteps=[20],
            interval=10,
            rng=np.random.default_rng(0),
        )

    unseen = features(overfitted.non_members[:100])
    used = infer(
        features(overfitted.members), unseen=unseen, rng=np.random.default_rng(1), num_splits=20
    )
    unused = infer(
        features(overfitted.reference[:60]),
        unseen=unseen,
        rng=np.random.default_rng(1),
        num_splits=20,
    )
    assert used.p_value < 1e-4
    assert unused.p_value > 0.05
    assert (used.num_suspect, used.num_unseen, len(used.p_of_splits)) == (60, 100, 20)


def test_the_p_value_is_twice_the_median_of_welch_tests(rng: np.random.Generator) -> None:
    suspect, unseen = rng.normal(0.3, 1, (60, 3)), rng.normal(0, 1, (50, 3))
    found = infer(suspect, unseen=unseen, rng=rng, num_splits=9)
    assert found.p_value == pytest.approx(min(1.0, 2 * np.median(found.p_of_splits)))
    single = infer(suspect, unseen=unseen, rng=rng, num_splits=1)
    assert single.p_value == single.p_of_splits[0]


def test_weak_evidence_per_record_adds_up(rng: np.random.Generator) -> None:
    def draw(n: int, shift: float) -> np.ndarray:
        return rng.normal(shift, 1, (n, 2))

    few = infer(draw(30, 0.3), unseen=draw(30, 0.0), rng=rng, num_splits=10)
    many = infer(draw(1500, 0.3), unseen=draw(1500, 0.0), rng=rng, num_splits=10)
    assert many.p_value < 1e-6
    assert few.p_value > 1e-3


def false_alarms(num_runs: int, num_splits: int) -> float:
    rng = np.random.default_rng(4)
    alarms = []
    for _ in range(num_runs):
        a, b = rng.normal(0, 1, (40, 4)), rng.normal(0, 1, (60, 4))
        alarms.append(infer(a, unseen=b, rng=rng, num_splits=num_splits).p_value < 0.05)
    return float(np.mean(alarms))


@pytest.mark.long
def test_alike_sets_rarely_raise_an_alarm() -> None:
    assert false_alarms(40, 5) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.slow
@pytest.mark.parametrize("num_splits", [1, 5])
def test_alike_sets_rarely_raise_an_alarm_over_two_thousand_runs(num_splits: int) -> None:
    assert false_alarms(2000, num_splits) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)


def test_few_records_are_not_estimable_and_broken_features_refused(rng) -> None:
    found = infer(rng.normal(0, 1, (19, 2)), unseen=rng.normal(0, 1, (50, 2)), rng=rng)
    assert found.p_value is None
    assert found.reason.startswith("not estimable")
    with pytest.raises(ValueError, match=r"\(N, F\)"):
        infer(np.zeros((30, 2)), unseen=np.zeros((30, 3)), rng=rng)
    with pytest.raises(ValueError, match="NaN"):
        infer(np.full((30, 2), np.nan), unseen=np.zeros((30, 2)), rng=rng)
    with pytest.raises(ValueError, match="num_splits"):
        infer(np.zeros((30, 2)), unseen=np.zeros((30, 2)), rng=rng, num_splits=0)
    constant = infer(np.zeros((30, 2)), unseen=np.zeros((30, 2)), rng=rng, num_splits=3)
    assert constant.p_value == 1.0
