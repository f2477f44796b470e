"""Frechet distance between two sets of features, read as two Gaussians."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["frechet_distance", "frechet_of_moments"]


def frechet_distance(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """||mu_x - mu_y||^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2)), S the unbiased covariances.

    With centred data matrices X (N, D) and Y (M, D) the eigenvalues of S_x S_y are the squared
    singular values of X Y^T, divided by (N - 1)(M - 1). So the trace of the matrix root is a sum of
    singular values: real and non-negative even for fewer vectors than dimensions, where a matrix
    root of S_x S_y picks up imaginary parts, and an (N, M) problem instead of a (D, D) one. Of more
    vectors than dimensions the R of X = Q R takes the place of X, which changes no singular value.

    Shape:      x (N, D), y (M, D); N, M >= 2.
    Guarantee:  never below 0. Biased upward, the more so the fewer vectors: compare at one N only.
    Raises:     ValueError for fewer than two vectors.
    Source:     Dowson, Landau (1982), J. Multivariate Analysis 12; Heusel et al. (2017), eq. 6,
                arXiv:1706.08500; on the bias, Chong, Forsyth (2020), arXiv:1911.07023.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"expected at least 2 vectors, got {len(x)} and {len(y)}")
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    root_x = (x - mean_x) / np.sqrt(len(x) - 1)
    root_y = (y - mean_y) / np.sqrt(len(y) - 1)
    traces = np.square(root_x).sum() + np.square(root_y).sum()
    overlap = np.linalg.svd(_few(root_x) @ _few(root_y).T, compute_uv=False).sum()
    return max(0.0, float(np.square(mean_x - mean_y).sum() + traces - 2 * overlap))


def frechet_of_moments(
    mean_x: npt.NDArray[np.float64],
    cov_x: npt.NDArray[np.float64],
    mean_y: npt.NDArray[np.float64],
    cov_y: npt.NDArray[np.float64],
) -> float:
    """``frechet_distance`` from means (D,) and covariances (D, D), for few dimensions.

    The trace of (S_x S_y)^(1/2) is the sum of the singular values of R_x R_y, where R are symmetric
    roots of S: eigenvalues that rounding left below zero count as zero.
    """
    overlap = np.linalg.svd(_root(cov_x) @ _root(cov_y), compute_uv=False).sum()
    traces = np.trace(cov_x) + np.trace(cov_y)
    return max(0.0, float(np.square(mean_x - mean_y).sum() + traces - 2 * overlap))


def _root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _few(root: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """At most D rows R with R^T R = X^T X."""
    if len(root) <= root.shape[1]:
        return root
    return np.asarray(np.linalg.qr(root, mode="r"))
