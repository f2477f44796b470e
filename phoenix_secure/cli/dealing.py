"""The work behind ``data partition``: images dealt out by the scheme that was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from phoenix_secure.cli.data_options import Scheme
from phoenix_secure.config import PartitionConfig
from phoenix_secure.config.faults import explain
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition import deal
from phoenix_secure.errors import ConfigError
from phoenix_secure.rng import SeedTree

__all__ = ["deal_by_options"]


def deal_by_options(
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

    Raises:     ConfigError for an option that the scheme does not have, and for its range.
    """
    if alpha is not None and scheme in (Scheme.IID, Scheme.SHARDS):
        raise ConfigError(f"--alpha has no meaning for {scheme}: leave it out")
    if shards is not None and scheme != Scheme.SHARDS:
        raise ConfigError(f"--shards has no meaning for {scheme}: leave it out")
    chosen = {"alpha": alpha, "shards_per_site": shards}
    try:
        settings = PartitionConfig(
            scheme=scheme.value,
            num_sites=num_sites,
            min_images_per_site=min_images,
            **{name: value for name, value in chosen.items() if value is not None},
        )
    except ValidationError as error:
        raise ConfigError(f"partition: {explain(error, of=PartitionConfig)}") from error
    rng = SeedTree(seed).child("partition").numpy()
    return deal(settings, image_set.labels, image_set.num_images, rng=rng, groups=image_set.groups)
