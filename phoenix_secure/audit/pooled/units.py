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

Places = npt.NDArray[np.int64]


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

    def take(self, places: Places) -> SideUnits:
        """The units at ``places``, in that order."""
        rows = [np.flatnonzero(self.unit == place) for place in places]
        found = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
        return SideUnits(
            images=self.images.take(found),
            unit=np.repeat(np.arange(len(rows)), [len(each) for each in rows]),
            labels=self.labels[places],
            coins=self.coins[places],
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

    def of_class(self, label: int) -> tuple[Places, Places]:
        """Members and others of one class, by their places among the units."""
        ours, theirs = (
            np.flatnonzero(side.labels == label) for side in (self.members, self.others)
        )
        return ours, theirs


def select(
    members: SiteImages, held_out: SiteImages, *, most: int, key: bytes, by_class: bool = False
) -> Selection:
    """At most ``most`` units of either side, as many of one as of the other.

    key        32 secret bytes of the site: they decide order and coins, each unit's by itself
    by_class   as many of each class, so that the histograms of classes add up to the whole one:
               what is left of it without some of them is nobody's

    A held-out image that equals a member was trained on: it is left out.
    """
    known = {image.tobytes() for image in members.images}
    fresh = [row for row, image in enumerate(held_out.images) if image.tobytes() not in known]
    ours = _units(members, key=key)
    theirs = _units(held_out.take(np.array(fresh, np.int64)), key=key)
    pairs = _pairs(ours, theirs, by_class=by_class)[:most]
    return Selection(members=ours.take(pairs[:, 0]), others=theirs.take(pairs[:, 1]))


def _pairs(ours: SideUnits, theirs: SideUnits, *, by_class: bool) -> Places:
    """(P, 2) places of one unit of either side, in the order of ours; of one class each."""
    groups = np.unique(ours.labels[ours.labels >= 0]) if by_class else [None]
    pairs = []
    for label in groups:
        sides = [
            np.arange(each.num_units) if label is None else np.flatnonzero(each.labels == label)
            for each in (ours, theirs)
        ]
        size = min(len(each) for each in sides)
        pairs.append(np.stack([each[:size] for each in sides], axis=1))
    found = np.concatenate([*pairs, np.empty((0, 2), np.int64)]).astype(np.int64)
    return found[np.argsort(found[:, 0], kind="stable")]


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
