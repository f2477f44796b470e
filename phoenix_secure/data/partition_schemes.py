"""Deal one data set out to several sites, evenly or with a chosen kind of skew.

Every function returns one int64 index array per site: sorted, disjoint, together covering every
image exactly once, and the same for the same generator state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import ConfigError, DataError

__all__ = ["dirichlet", "iid", "label_shards", "largest_remainder", "quantity_skew"]

Indices = npt.NDArray[np.int64]

# Redraws before giving up on min_images_per_site. Each costs well under a millisecond, so that a
# hopeless request fails within a second, and one draw in a hundred that succeeds is enough.
_MAX_DRAWS = 1000


def iid(num_images: int, *, num_sites: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle the images and cut them into ``num_sites`` parts.

    Guarantee:  part sizes differ by at most one.
    Raises:     ConfigError for num_sites < 1; DataError for fewer images than sites.
    Source:     McMahan et al. (2017), section 3, arXiv:1602.05629.
    """
    _require_enough(num_images, num_sites=num_sites, min_images_per_site=1)
    return [np.sort(part) for part in np.array_split(rng.permutation(num_images), num_sites)]


def dirichlet(
    labels: npt.ArrayLike,
    *,
    num_sites: int,
    alpha: float,
    rng: np.random.Generator,
    min_images_per_site: int = 1,
) -> list[Indices]:
    """Label skew: for each class c sample p_c ~ Dirichlet_K(alpha) and split its images by p_c.

    Units:      alpha > 0 is dimensionless; -> 0 gives each class to one site, -> inf gives every
                site the same mixture.
    Guarantee:  class c gives site k either floor or ceil of n_c * p_ck images (largest remainder),
                so nothing is lost; each site gets at least ``min_images_per_site``: the draw is
                repeated until that holds, that is, p is conditioned on it.
    Raises:     ConfigError for a bad alpha, num_sites or min_images_per_site; DataError when 1000
                draws did not give every site its minimum, or there are too few images.
    Source:     Yurochkin et al. (2019), section 4, arXiv:1905.12022; the per-site form with a
                prior over classes is Hsu et al. (2019), section 3, arXiv:1909.06335.
    """
    y = _checked_labels(labels)
    _require_enough(y.size, num_sites=num_sites, min_images_per_site=min_images_per_site)
    _require_alpha(alpha)
    _, y, class_sizes = np.unique(y, return_inverse=True, return_counts=True)
    for _ in range(_MAX_DRAWS):
        shares = rng.dirichlet(np.full(num_sites, float(alpha)), size=class_sizes.size)
        counts = largest_remainder(class_sizes, shares)
        if counts.sum(axis=0).min() >= min_images_per_site:
            return _deal(_shuffled_by_label(y, rng=rng), class_sizes, counts)
    raise DataError(
        f"no Dirichlet draw in {_MAX_DRAWS} gave each of {num_sites} sites "
        f"min_images_per_site={min_images_per_site} of {y.size} images at alpha={alpha}: "
        "raise alpha, or lower num_sites or min_images_per_site"
    )


def label_shards(
    labels: npt.ArrayLike,
    *,
    num_sites: int,
    shards_per_site: int,
    rng: np.random.Generator,
) -> list[Indices]:
    """Pathological label skew: sort by label, cut into shards, give each site the same number.

    Guarantee:  num_sites * shards_per_site shards whose sizes differ by at most one; which images
                of a class fall into which shard, and which site gets which shard, is random.
    Raises:     ConfigError for a count < 1; DataError for fewer images than shards.
    Source:     McMahan et al. (2017), section 3, arXiv:1602.05629 (shards_per_site = 2).
    """
    y = _checked_labels(labels)
    _require_count("shards_per_site", shards_per_site)
    _require_enough(y.size, num_sites=num_sites, min_images_per_site=shards_per_site)
    shards = np.array_split(_shuffled_by_label(y, rng=rng), num_sites * shards_per_site)
    dealt = rng.permutation(len(shards)).reshape(num_sites, shards_per_site)
    return [np.sort(np.concatenate([shards[i] for i in site])) for site in dealt]


def quantity_skew(
    num_images: int,
    *,
    num_sites: int,
    alpha: float,
    rng: np.random.Generator,
    min_images_per_site: int = 1,
) -> list[Indices]:
    """Quantity skew: site sizes follow q ~ Dirichlet_K(alpha), contents are random.

    Guarantee:  site k gets min_images_per_site plus its share q_k of the remaining images
                (largest remainder), so the minimum always holds and nothing is lost.
    Raises:     ConfigError for a bad alpha, num_sites or min_images_per_site; DataError for fewer
                than num_sites * min_images_per_site images.
    Source:     Li et al. (2022), section IV-D, arXiv:2102.02079.
    """
    _require_enough(num_images, num_sites=num_sites, min_images_per_site=min_images_per_site)
    _require_alpha(alpha)
    shares = rng.dirichlet(np.full(num_sites, float(alpha)))
    spare = np.array([num_images - num_sites * min_images_per_site])
    sizes = min_images_per_site + largest_remainder(spare, shares[np.newaxis])[0]
    return [np.sort(part) for part in np.split(rng.permutation(num_images), np.cumsum(sizes)[:-1])]


def largest_remainder(totals: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> Indices:
    """Round each row of ``totals[:, None] * shares`` to integers that add up to its total exactly.

    Shape:      totals (R,), shares (R, K) with rows that sum to 1; (R, K) int64 out.
    Guarantee:  every entry is the floor or the ceiling of its exact quota; the units left over
                after flooring go to the largest fractional parts, ties to the lower index.
    Raises:     ValueError for shares that are not finite or do not sum to 1.
    Source:     Hamilton's method of apportionment.

    >>> largest_remainder(np.array([10]), np.array([[0.55, 0.25, 0.2]])).tolist()
    [[6, 2, 2]]
    """
    if not np.isfinite(shares).all() or not np.allclose(shares.sum(axis=1), 1.0, rtol=0, atol=1e-9):
        raise ValueError("expected finite shares whose rows sum to 1")
    quotas = totals[:, np.newaxis] * shares
    counts = np.floor(quotas).astype(np.int64)
    # Stable, so that equal remainders are settled the same way on every platform.
    order = np.argsort(counts - quotas, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    left_over = totals - counts.sum(axis=1)
    counts += rank < left_over[:, np.newaxis]
    return counts


def _shuffled_by_label(y: npt.NDArray[np.int64], *, rng: np.random.Generator) -> Indices:
    """All indices ordered by label, in random order within one label."""
    shuffled = rng.permutation(y.size)
    return shuffled[np.argsort(y[shuffled], kind="stable")]


def _deal(by_label: Indices, class_sizes: Indices, counts: Indices) -> list[Indices]:
    """Give site k the next ``counts[c, k]`` indices of every class c."""
    site_of_position = np.concatenate(
        [np.repeat(np.arange(counts.shape[1]), row) for row in counts]
    )
    order = np.argsort(site_of_position, kind="stable")
    return [np.sort(part) for part in np.split(by_label[order], np.cumsum(counts.sum(axis=0))[:-1])]


def _checked_labels(labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    y: npt.NDArray[Any] = np.asarray(labels)
    if y.ndim != 1 or y.size == 0 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"labels must be one integer per image, got shape {y.shape} {y.dtype}: "
            "use iid or quantity_skew for a set without labels"
        )
    return y.astype(np.int64)


def _require_count(setting: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{setting} must be a whole number of at least 1, got {value!r}")


def _require_alpha(alpha: float) -> None:
    # Far below this the draws underflow; each class already goes to one site in practice.
    if not math.isfinite(alpha) or alpha < 1e-6:
        raise ConfigError(f"alpha must be a finite number of at least 1e-6, got {alpha!r}")


def _require_enough(num_images: int, *, num_sites: int, min_images_per_site: int) -> None:
    _require_count("num_images", num_images)
    _require_count("num_sites", num_sites)
    _require_count("min_images_per_site", min_images_per_site)
    if num_sites * min_images_per_site > num_images:
        raise DataError(
            f"{num_images} images cannot give {num_sites} sites at least {min_images_per_site} "
            "each: use more images, or lower num_sites, shards_per_site or min_images_per_site"
        )
