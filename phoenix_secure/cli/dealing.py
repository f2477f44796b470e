"""The work behind ``data partition``: images dealt out by the scheme that was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phoenix_secure.cli.data_options import Scheme
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition_schemes import dirichlet, iid, label_shards, quantity_skew
from phoenix_secure.errors import ConfigError
from phoenix_secure.rng import SeedTree

__all__ = ["deal"]


def deal(
    image_set: ImageSet,
    *,
    scheme: Scheme,
    num_sites: int,
    alpha: float | None,
    shards: int | None,
    min_images: int,
    seed: int,
) -> list[npt.NDArray[np.int64]]:
    """The indices of each site's images.

    Raises:     ConfigError for an option that the scheme does not have.
    """
    if alpha is not None and scheme in (Scheme.IID, Scheme.SHARDS):
        raise ConfigError(f"--alpha has no meaning for {scheme}: leave it out")
    if shards is not None and scheme != Scheme.SHARDS:
        raise ConfigError(f"--shards has no meaning for {scheme}: leave it out")
    concentration = 0.5 if alpha is None else alpha
    rng = SeedTree(seed).child("partition").numpy()
    labels = np.empty(0, dtype=np.int64) if image_set.labels is None else image_set.labels
    match scheme:
        case Scheme.IID:
            return iid(image_set.num_images, num_sites=num_sites, rng=rng)
        case Scheme.DIRICHLET:
            return dirichlet(
                labels,
                num_sites=num_sites,
                alpha=concentration,
                rng=rng,
                min_images_per_site=min_images,
            )
        case Scheme.SHARDS:
            return label_shards(
                labels,
                num_sites=num_sites,
                shards_per_site=2 if shards is None else shards,
                rng=rng,
            )
        case Scheme.QUANTITY:
            return quantity_skew(
                image_set.num_images,
                num_sites=num_sites,
                alpha=concentration,
                rng=rng,
                min_images_per_site=min_images,
            )
