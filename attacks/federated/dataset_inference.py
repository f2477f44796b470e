"""Dataset inference: was *this site's* data used, as a whole? Weak evidence per record adds up.

Source:     Dubiński et al. (2025), CDI, arXiv:2411.12858; combining splits: DiCiccio, DiCiccio,
            Romano (2020), Statistics & Probability Letters 166 (twice the median is a p-value).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ttest_ind
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attacks import denoising_loss, pia, rediffuse, secmi, sima
from attacks.denoiser import Denoiser
from attacks.records import Progress, no_progress

__all__ = ["DatasetInference", "infer", "record_features"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInference:
    """p_value: of "the suspect records score no higher than unseen ones", None with ``reason``.

    p_of_splits:    one Welch test per split; not independent, so their *mean* (as published) is no
                    p-value and their minimum still less.
    """

    p_value: float | None
    p_of_splits: tuple[float, ...]
    num_suspect: int
    num_unseen: int
    reason: str | None = None


def record_features(
    x: ArrayLike,
    *,
    eps: Denoiser,
    alpha_bar: ArrayLike,
    timesteps: Sequence[int],
    interval: int,
    rng: np.random.Generator,
    num_noises: int = 4,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """The scores of this package's denoiser attacks as columns, one set per timestep.

    Loss, SecMI, PIA, PIAN, SimA and ReDiffuse (2 variations) at each t; a member's columns need not
    be larger, the classifier learns each one's direction on its own half.

    Shape:      x (N, C, H, W); result (N, 6 len(timesteps)).
    Raises:     ValueError unless each t is a positive multiple of ``interval`` with t + interval in
                the schedule.
    """
    columns = [
        denoising_loss.losses(
            x, eps=eps, alpha_bar=alpha_bar, timesteps=timesteps, num_noises=num_noises, rng=rng
        )
    ]
    for done, t in enumerate(timesteps):
        scores = [
            secmi.score(x, eps=eps, alpha_bar=alpha_bar, t=t, interval=interval),
            pia.score(x, eps=eps, alpha_bar=alpha_bar, t=t),
            pia.score(x, eps=eps, alpha_bar=alpha_bar, t=t, normalized=True),
            sima.score(x, eps=eps, t=t),
            rediffuse.score(
                x, eps=eps, alpha_bar=alpha_bar, t=t, interval=interval, num_variations=2, rng=rng
            ),
        ]
        columns.append(np.stack(scores, axis=1))
        progress(done + 1, len(timesteps))
    return np.concatenate(columns, axis=1)


def infer(
    suspect: ArrayLike,
    *,
    unseen: ArrayLike,
    rng: np.random.Generator,
    num_splits: int = 100,
) -> DatasetInference:
    """Fit a logistic model on half of both sets, test the other halves with a one-sided Welch test.

    suspect:    (N, F) features of the records whose use is in question (one site's).
    unseen:     (M, F) of records of the same distribution that were certainly not used. A shift
                between the two is found as "use": run the blind baseline on the same records.
    Guarantee:  for exchangeable sets the p-value is valid up to the t-test's normal limit: each
                split tests on records its classifier never saw, and splits are joined by twice the
                median.
    Raises:     ValueError for unequal F or NaN. Not estimable below 20 records a side.
    """
    first, second = (np.asarray(part, dtype=np.float64) for part in (suspect, unseen))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"expected (N, F) and (M, F), got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("features: contain NaN or infinity")
    if num_splits < 1:
        raise ValueError(f"expected num_splits >= 1, got {num_splits}")
    if min(len(first), len(second)) < 20:
        return DatasetInference(
            p_value=None,
            p_of_splits=(),
            reason=f"not estimable: needs 20 records on each side, there are {len(first)} and "
            f"{len(second)}",
            num_suspect=len(first),
            num_unseen=len(second),
        )
    p_values = tuple(_one_split(first, second, rng=rng) for _ in range(num_splits))
    factor = 1.0 if num_splits == 1 else 2.0
    return DatasetInference(
        p_value=min(1.0, factor * float(np.median(p_values))),
        p_of_splits=p_values,
        num_suspect=len(first),
        num_unseen=len(second),
    )


def _one_split(
    first: NDArray[np.float64], second: NDArray[np.float64], *, rng: np.random.Generator
) -> float:
    train, test = [], []
    for part in (first, second):
        order = rng.permutation(len(part))
        train.append(part[order[: len(part) // 2]])
        test.append(part[order[len(part) // 2 :]])
    labels = np.repeat([True, False], [len(part) for part in train])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    )
    model.fit(np.concatenate(train), labels)
    ours, theirs = (model.decision_function(part) for part in test)
    if np.ptp(np.concatenate([ours, theirs])) == 0:
        return 1.0
    return float(ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue)
