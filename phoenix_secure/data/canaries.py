"""Canaries: images unlike any photograph, planted by fair coins so that an audit can bound epsilon.

Each canary is trained on with probability 1/2, by a coin of its own ("exactly half" would make the
last coin known, and no bound would hold). The rest of the run does not know of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.errors import DataError
from phoenix_secure.files import write_bytes
from phoenix_secure.rng import SeedTree

__all__ = ["PlantedCanaries", "plant_canaries", "read_canaries", "write_canaries"]

_FORMAT = "phoenix-secure/canaries/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedCanaries:
    """images (m, C, H, W) uint8; labels (m,) int64; inclusion (m,) bool; site (m,) int64: the
    position of the site that holds the canary when it is included."""

    images: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    inclusion: npt.NDArray[np.bool_] = field(repr=False)
    site: npt.NDArray[np.int64] = field(repr=False)

    def of_site(self, position: int) -> npt.NDArray[np.int64]:
        """The canaries that this site trains on."""
        return np.flatnonzero(self.inclusion & (self.site == position))


def plant_canaries(
    num_canaries: int,
    *,
    shape: tuple[int, int, int],
    num_sites: int,
    num_classes: int,
    seeds: SeedTree,
) -> PlantedCanaries:
    """Sample ``num_canaries`` images of independent black and white pixels, their coins and sites.

    Shape:      ``shape`` is (C, H, W).
    Source:     Steinke et al. (2023), section 3, arXiv:2305.08846 (the coins).
    """
    rng = seeds.child("canaries").numpy()
    return PlantedCanaries(
        images=(rng.integers(0, 2, (num_canaries, *shape)) * 255).astype(np.uint8),
        labels=rng.integers(0, max(1, num_classes), num_canaries),
        inclusion=rng.random(num_canaries) < 0.5,
        site=rng.integers(0, num_sites, num_canaries),
    )


def write_canaries(canaries: PlantedCanaries, path: Path) -> None:
    """Write what an audit needs, in one step; no pickle."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(_FORMAT),
        images=canaries.images,
        labels=canaries.labels,
        inclusion=canaries.inclusion,
        site=canaries.site,
    )
    write_bytes(path, buffer.getvalue())


def read_canaries(path: Path) -> PlantedCanaries:
    """Read ``write_canaries``'s file.

    Raises:     DataError for a missing, damaged or foreign file.
    """
    advice = "restore the run folder: without this file nobody knows which canaries were planted"
    arrays = read_arrays(path, advice=advice)
    try:
        found = PlantedCanaries(
            images=arrays["images"],
            labels=arrays["labels"],
            inclusion=arrays["inclusion"],
            site=arrays["site"],
        )
        sizes = {len(part) for part in (found.images, found.labels, found.inclusion, found.site)}
        intact = (
            str(arrays["format"]) == _FORMAT
            and len(sizes) == 1
            and found.images.ndim == 4
            and found.images.dtype == np.uint8
            and found.inclusion.dtype == np.bool_
            and found.inclusion.ndim == 1
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a canary file: {advice}") from error
    if not intact:
        raise DataError(f"{path} is not a canary file: {advice}")
    return found
