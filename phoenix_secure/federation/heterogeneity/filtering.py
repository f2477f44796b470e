"""Threshold filtering at the site: evaluate its own samples, count failures, sit out.

The paper sends every site's samples' scores to the server. Here the score stays at the site. In a
secure sum so does the decision: the site answers like all others, and its update enters with the
weight of one image. In plaintext rounds the code ``refused`` leaves in place of an update, the same
code as for a request that the site's policy forbids: one bit a round.

The cohort never falls below what the round needs: when all sites sit out of a sum, all weigh the
same; in plaintext rounds a server that is left with too few answers asks once more for the same
round, and a site that is asked again stays.

Method: threshold filtering of Phoenix (arXiv:2306.04098); the score is that of Kynkaanniemi et al.
(2019, arXiv:1904.06991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import FilteringConfig
from phoenix_secure.metrics.features import FeatureExtractor
from phoenix_secure.metrics.manifold import manifold_scores

__all__ = ["Judgement", "SelfEvaluator", "judge_failures"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Failures in a row after this round, and whether the site sits it out."""

    failures: int
    refuses: bool


def judge_failures(score: float, *, failures: int, settings: FilteringConfig) -> Judgement:
    """Count ``score`` on top of ``failures`` in a row.

    Guarantee:  a score equal to the threshold passes; one pass sets the count back to 0, whatever
                it was, and so readmits the site; a score that is NaN fails.

    >>> from phoenix_secure.config import FilteringConfig
    >>> rule = FilteringConfig(threshold=0.5, max_failures=2)
    >>> judge_failures(0.5, failures=7, settings=rule)
    Judgement(failures=0, refuses=False)
    >>> judge_failures(0.49, failures=1, settings=rule)
    Judgement(failures=2, refuses=True)
    """
    if score >= settings.threshold:
        return Judgement(failures=0, refuses=False)
    return Judgement(failures=failures + 1, refuses=failures + 1 >= settings.max_failures)


class SelfEvaluator:
    """Scores a model's samples against one fixed set of real images.

    draw        parameters (d,), round number -> images (N, C, H, W) in [-1, 1]
    reference   real images (M, C, H, W) in [-1, 1]; M > nearest_k
    """

    def __init__(
        self,
        settings: FilteringConfig,
        *,
        reference: np.ndarray,
        extractor: FeatureExtractor,
        draw: Callable[[np.ndarray, int], np.ndarray],
    ) -> None:
        if len(reference) <= settings.nearest_k:
            raise ValueError(f"expected more than {settings.nearest_k} reference images")
        self._settings = settings
        self._extractor = extractor
        self._draw = draw
        self._reference = extractor(reference).astype(np.float64)

    def score(self, parameters: np.ndarray, *, round_number: int) -> float:
        """Precision or recall of the samples, in [0, 1]."""
        samples = self._extractor(self._draw(parameters, round_number)).astype(np.float64)
        scores = manifold_scores(samples, self._reference, nearest_k=self._settings.nearest_k)
        return float(getattr(scores, self._settings.metric))
