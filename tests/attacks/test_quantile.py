from __future__ import annotations

import numpy as np
import pytest

from attacks import quantile
from attacks.statistics.auc import auc

pytestmark = pytest.mark.long


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of very different contrast, and a score that depends on it, noise included."""
    contrast = rng.uniform(0.05, 1, n)
    x = (rng.uniform(-1, 1, (n, 1, 6, 6)) * contrast[:, None, None, None]).astype(np.float32)
    return x, -10 * contrast**2 + (0.1 + contrast) * rng.normal(0, 1, n)


def test_calibration_makes_easy_and_hard_images_comparable(rng: np.random.Generator) -> None:
    public, public_scores = draw(rng, 600)
    x, scores = draw(rng, 400)
    membership = np.arange(400) < 200
    scores = scores + 2.0 * membership
    fitted = quantile.fit(public, scores=public_scores, rng=rng)
    calibrated = fitted.score(x, scores=scores)
    plain = auc(scores, membership=membership).value
    better = auc(calibrated, membership=membership).value
    assert plain < 0.7
    assert better > plain + 0.15


@pytest.mark.parametrize("num_fits", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_conformal_p_values_keep_the_false_positive_rate(num_fits: int) -> None:
    rng = np.random.default_rng(3)
    flagged = []
    for _ in range(num_fits):
        public, public_scores = draw(rng, 200)
        x, scores = draw(rng, 200)
        fitted = quantile.fit(public, scores=public_scores, rng=rng, bag_size=1)
        p = fitted.p_values(x, scores=scores)
        assert p.min() >= 1 / 101
        flagged.append([(p <= 0.05).mean(), (p <= 0.2).mean()])
    # Exchangeable: E <= a; its spread over fits is that of a Beta of 100 calibration records.
    mean, error = np.mean(flagged, axis=0), np.std(flagged, axis=0) / np.sqrt(num_fits)
    assert (mean <= np.array([0.05, 0.2]) + 3 * error).all()
    assert mean[1] > 0.1


def test_the_p_value_counts_calibration_residuals(rng: np.random.Generator) -> None:
    public, public_scores = draw(rng, 200)
    x, scores = draw(rng, 20)
    fitted = quantile.fit(public, scores=public_scores, rng=rng)
    ours = fitted.score(x, scores=scores)
    slow = [(1 + sum(r >= s for r in fitted.residuals)) / 101 for s in ours]
    np.testing.assert_allclose(fitted.p_values(x, scores=scores), slow)


def test_a_record_of_the_fit_is_never_calibrated_on_itself(rng: np.random.Generator) -> None:
    public, public_scores = draw(rng, 120)
    fitted = quantile.fit(public, scores=public_scores, rng=rng)
    with pytest.raises(ValueError, match="share 1"):
        fitted.score(public[5:6], scores=public_scores[5:6])
    with pytest.raises(ValueError, match="x has 2 records, scores 1"):
        fitted.score(draw(rng, 2)[0], scores=[1.0])


def test_too_few_or_constant_public_scores_are_refused(rng: np.random.Generator) -> None:
    public, public_scores = draw(rng, 120)
    with pytest.raises(ValueError, match="at least 100"):
        quantile.fit(public[:99], scores=public_scores[:99], rng=rng)
    with pytest.raises(ValueError, match="do not spread"):
        quantile.fit(public, scores=np.zeros(120), rng=rng)
    with pytest.raises(ValueError, match="level"):
        quantile.fit(public, scores=public_scores, rng=rng, level=0.5)
    with pytest.raises(ValueError, match="scores 3"):
        quantile.fit(public, scores=public_scores[:3], rng=rng)
