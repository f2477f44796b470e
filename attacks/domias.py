"""DOMIAS: the generator's density at a member is high *relative to* the population's.

Source:     van Breugel, Sun, Qian, van der Schaar (2023), arXiv:2302.12580.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import gaussian_kde
from sklearn.decomposition import PCA

from attacks.records import (
    Embedding,
    Progress,
    Scores,
    check_disjoint,
    check_images,
    embedded,
    no_progress,
)

__all__ = ["score"]

_BATCH = 256


def score(
    x: ArrayLike,
    *,
    samples: ArrayLike,
    reference: ArrayLike,
    num_components: int = 8,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """log p_G(x) - log p_R(x), both Gaussian kernel density estimates (Scott's bandwidth).

    The densities live in the first ``num_components`` principal components of samples and
    reference together: a kernel estimate needs many more points than dimensions. The projection is
    never fitted on the candidates.

    Shape:      (N, C, H, W) each, (N,) out.
    Guarantee:  computed on log densities. Published code adds 1e-10 to a density, which decides
                alone wherever both are smaller than that.
    Raises:     ValueError for a reference that holds candidates (published code draws non-members
                and reference from one array, where they overlap), or too few or degenerate points.
    """
    candidates = check_images(x, name="x")
    generated = check_images(samples, name="samples", like=candidates)
    population = check_images(reference, name="reference", like=candidates)
    check_disjoint(population, candidates, names=("reference", "x"))
    g = embedded(generated, embed=embed, name="samples").astype(np.float64)
    r = embedded(population, embed=embed, name="reference").astype(np.float64)
    if not 1 <= num_components <= g.shape[1]:
        raise ValueError(f"expected 1 <= num_components <= {g.shape[1]}, got {num_components}")
    for name, points in (("samples", g), ("reference", r)):
        if len(points) < 5 * num_components:
            raise ValueError(
                f"{name}: {len(points)} records are too few for a density in {num_components} "
                f"dimensions; give {5 * num_components} or lower num_components"
            )
    pca = PCA(num_components, svd_solver="full").fit(np.concatenate([g, r]))
    pooled = pca.transform(np.concatenate([g, r]))
    density_g = _density(pooled[: len(g)], pooled=pooled, name="samples")
    density_r = _density(pooled[len(g) :], pooled=pooled, name="reference")
    q = pca.transform(embedded(candidates, embed=embed, name="x").astype(np.float64))
    out = np.empty(len(q))
    for start in range(0, len(q), _BATCH):
        rows = slice(start, min(start + _BATCH, len(q)))
        out[rows] = density_g.logpdf(q[rows].T) - density_r.logpdf(q[rows].T)
        progress(rows.stop, len(q))
    return out


def _density(
    points: NDArray[np.float64], *, pooled: NDArray[np.float64], name: str
) -> gaussian_kde:
    spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T)))
    if spread[0] <= 1e-9 * np.atleast_2d(np.cov(pooled.T)).trace():
        raise ValueError(
            f"{name}: all records lie in a flat subspace, so that they have no density; "
            "lower num_components"
        )
    return gaussian_kde(points.T)
