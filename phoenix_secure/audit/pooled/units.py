"""Whom a site counts: images, or persons where its data says whose each image is.

As many members as held-out ones, at every site. Were their ratio another one at each, a site with
many members and easy images would make members look easy: exposure where there is none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.site_images import SiteImages

__all__ = ["Selection", "SideUnits", "select"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SideUnits:
    """Units of one side, in an order of their own keyed hashes.

    images    of all units, each unit's together
    unit      (N,) the place of each image's unit among ``labels``
    labels    (U,) the class that most of a unit's images have; -1 without
    coins     (U,) a fair coin of each unit's own
    """

    images: SiteImages
    unit: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    coins: npt.NDArray[np.bool_]

    @property
    def num_units(self) -> int:
        return len(self.labels)

    def first(self, num_units: int) -> SideUnits:
        """The first so many."""
        rows = np.flatnonzero(self.unit < num_units)
        return SideUnits(
            images=self.images.take(rows),
            unit=self.unit[rows],
            labels=self.labels[:num_units],
            coins=self.coins[:num_units],
        )


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Selection:
    """As many units of either side."""

    members: SideUnits
    others: SideUnits

    @property
    def num_units(self) -> int:
        """Of one side."""
        return self.members.num_units

    def of_class(self, label: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """As many members as others of one class: their places among the units."""
        places = [np.flatnonzero(side.labels == label) for side in (self.members, self.others)]
        size = min(len(each) for each in places)
        return places[0][:size], places[1][:size]


def select(members: SiteImages, held_out: SiteImages, *, most: int, key: bytes) -> Selection:
    """At most ``most`` units of either side, as many of one as of the other.

    key   32 secret bytes of the site: they decide order and coins, each unit's by itself

    A held-out image that equals a member was trained on: it is left out.
    """
    known = {image.tobytes() for image in members.images}
    fresh = [row for row, image in enumerate(held_out.images) if image.tobytes() not in known]
    sides = [
        _units(members, key=key),
        _units(held_out.take(np.array(fresh, np.int64)), key=key),
    ]
    size = min(most, *(side.num_units for side in sides))
    return Selection(members=sides[0].first(size), others=sides[1].first(size))


def _units(images: SiteImages, *, key: bytes) -> SideUnits:
    named = images.images if images.groups is None else images.groups
    names = [each.tobytes() for each in named]
    tags = [hashlib.blake2b(name, key=key, digest_size=17).digest() for name in names]
    order = np.array(sorted(range(len(tags)), key=lambda row: (tags[row][:16], row)), np.int64)
    unit, starts = np.zeros(len(order), np.int64), []
    for place, row in enumerate(order):
        is_new = images.groups is None or place == 0 or tags[row] != tags[order[place - 1]]
        if is_new:
            starts.append(place)
        unit[place] = len(starts) - 1
    taken = images.take(order)
    labels = np.full(len(starts), -1, np.int64)
    if taken.labels is not None:
        for number in range(len(starts)):
            of_unit = taken.labels[unit == number]
            values, counts = np.unique(of_unit, return_counts=True)
            labels[number] = values[counts.argmax()]
    coins = np.array([tags[order[start]][16] & 1 == 1 for start in starts], np.bool_)
    return SideUnits(images=taken, unit=unit, labels=labels, coins=coins)
