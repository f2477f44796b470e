"""The words that a site enters into a pooled audit, and the bounds of their sums.

::

    answered | enters counts | of each class: enters counts | of each attack: members, others of the
    first half, others of the second | blind: members, others | of each class: members, others |
    held-out images that were looked at, their features, the products of their features

*Others* are held-out images. Half of them, by a coin each, are the placebo's pseudo-members. All
words are whole numbers: a histogram's counts, or features on a grid of whole numbers, so that their
sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phoenix_secure.config import RunConfig

__all__ = [
    "LARGEST_FEATURE",
    "NUM_FEATURES",
    "POOLED_ATTACKS",
    "AttackCounts",
    "FeatureMoments",
    "PooledCounts",
    "PooledLayout",
    "SideCounts",
]

Counts = npt.NDArray[np.int64]

# One query and two: the cheapest attacks that need no choice on other images.
POOLED_ATTACKS = ("loss", "pia")
NUM_FEATURES = 32
LARGEST_FEATURE = 127


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SideCounts:
    """Histograms (B,) of members' and of others' scores; the last bin is the likeliest member."""

    members: Counts
    others: Counts


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class AttackCounts:
    """Histograms (B,) of one attack; ``others`` in the halves of the placebo."""

    members: Counts
    pseudo_members: Counts
    pseudo_others: Counts

    @property
    def others(self) -> Counts:
        """Of all held-out images."""
        return self.pseudo_members + self.pseudo_others


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class FeatureMoments:
    """Of ``count`` vectors of whole numbers: their sum (D,) and the sum of x x^T (D, D)."""

    count: int
    total: Counts
    products: Counts


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PooledCounts:
    """What a site enters, or all sites together; every number is a count or a sum of whole numbers.

    answered   sites: 1 for one; 0 for one whose examination failed, which enters zeros
    entered    of those, who had images enough
    able       (K,) sites with images enough of each class
    classes    of the first attack; zeros unless each of ``entered`` has enough of every class
    """

    answered: int
    entered: int
    able: Counts
    attacks: tuple[AttackCounts, ...]
    blind: SideCounts
    classes: tuple[SideCounts, ...]
    moments: FeatureMoments


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledLayout:
    """The form of one plan's words; all parties derive the same from its settings."""

    num_bins: int
    num_classes: int
    max_images: int
    min_images: int

    @classmethod
    def of(cls, config: RunConfig) -> PooledLayout:
        """The form that the settings ask for."""
        audit = config.audit
        return cls(
            num_bins=audit.bins,
            num_classes=len(config.data.class_names),
            max_images=audit.max_images,
            min_images=audit.min_images,
        )

    @property
    def num_words(self) -> int:
        """d."""
        histograms = 3 * len(POOLED_ATTACKS) + 2 + 2 * self.num_classes
        return 2 + self.num_classes + histograms * self.num_bins + self._num_moments

    @property
    def limit(self) -> int:
        """No word of one site is larger in absolute value."""
        return self.max_images * LARGEST_FEATURE**2

    @property
    def _num_moments(self) -> int:
        return 1 + NUM_FEATURES + NUM_FEATURES * (NUM_FEATURES + 1) // 2

    def empty(self) -> PooledCounts:
        """Of nobody."""
        return self.read(np.zeros(self.num_words, np.int64))

    def to_words(self, counts: PooledCounts) -> Counts:
        """(d,) int64."""
        moments = counts.moments
        parts: list[npt.ArrayLike] = [[counts.answered, counts.entered], counts.able]
        for attack in counts.attacks:
            parts += [attack.members, attack.pseudo_members, attack.pseudo_others]
        for side in (counts.blind, *counts.classes):
            parts += [side.members, side.others]
        upper = moments.products[np.triu_indices(NUM_FEATURES)]
        parts += [[moments.count], moments.total, upper]
        words = np.concatenate([np.asarray(part, np.int64) for part in parts])
        if words.shape != (self.num_words,):
            raise ValueError(f"expected counts of {self.num_words} words")
        return words

    def read(self, words: Counts) -> PooledCounts:
        """What ``to_words`` wrote; nothing is believed of it.

        Raises:     ValueError for another number of words.
        """
        if words.shape != (self.num_words,):
            raise ValueError(f"expected {self.num_words} words")
        take = self._parts(words)
        answered, entered = (int(each) for each in next(take))
        able = next(take)
        attacks = tuple(
            AttackCounts(members=next(take), pseudo_members=next(take), pseudo_others=next(take))
            for _ in POOLED_ATTACKS
        )
        sides = [
            SideCounts(members=next(take), others=next(take)) for _ in range(1 + self.num_classes)
        ]
        (count,), total, upper = next(take), next(take), next(take)
        products = np.zeros((NUM_FEATURES, NUM_FEATURES), np.int64)
        products[np.triu_indices(NUM_FEATURES)] = upper
        products += np.triu(products, 1).T
        return PooledCounts(
            answered=answered,
            entered=entered,
            able=able,
            attacks=attacks,
            blind=sides[0],
            classes=tuple(sides[1:]),
            moments=FeatureMoments(count=int(count), total=total, products=products),
        )

    def _parts(self, words: Counts) -> Iterator[Counts]:
        histograms = 3 * len(POOLED_ATTACKS) + 2 + 2 * self.num_classes
        sizes = [2, self.num_classes, *[self.num_bins] * histograms, 1, NUM_FEATURES]
        yield from np.split(words, np.cumsum(sizes))

    def check(self, counts: PooledCounts, *, num_sites: int, are_asked: bool) -> None:
        """Refuse sums that ``num_sites`` honest sites cannot have entered together.

        are_asked   whether counts were asked for class by class

        Raises:     ValueError naming the rule, with no count in it.
        """
        if not 0 <= counts.entered <= counts.answered <= num_sites:
            raise ValueError("more sites counted than are in the sum")
        if counts.able.size and not 0 <= counts.able.min() <= counts.able.max() <= counts.entered:
            raise ValueError("more sites with images of a class than with images at all")
        histograms = [
            each
            for attack in counts.attacks
            for each in (attack.members, attack.pseudo_members, attack.pseudo_others)
        ]
        sides = (counts.blind, *counts.classes)
        histograms += [each for side in sides for each in (side.members, side.others)]
        if any(int(histogram.min()) < 0 for histogram in histograms):
            raise ValueError("a negative count")
        sizes = {int(a.members.sum()) for a in counts.attacks}
        sizes |= {int(a.others.sum()) for a in counts.attacks}
        if len(sizes) > 1:
            raise ValueError("expected as many members as others, the same in every attack")
        size, most = sizes.pop(), counts.entered * self.max_images
        if not counts.entered * self.min_images <= size <= most:
            raise ValueError("more or fewer images than the sites may enter")
        if not int(counts.blind.members.sum()) == int(counts.blind.others.sum()) <= size:
            raise ValueError("the blind baseline is of other images than the attacks")
        self._check_classes(counts, are_asked=are_asked)
        self._check_moments(counts.moments, most=most)

    def _check_classes(self, counts: PooledCounts, *, are_asked: bool) -> None:
        """Class by class as many of either side, and together the first attack's histograms."""
        sizes = [int(side.members.sum()) for side in counts.classes]
        if sizes != [int(side.others.sum()) for side in counts.classes]:
            raise ValueError("expected as many members as others of each class")
        first = counts.attacks[0]
        for whole, parts in (
            (first.members, [side.members for side in counts.classes]),
            (first.others, [side.others for side in counts.classes]),
        ):
            total = sum(parts, np.zeros_like(whole))
            if not np.array_equal(total, whole if are_asked else np.zeros_like(whole)):
                raise ValueError("the classes do not add up to what was asked for")
        if are_asked and min(sizes) < counts.entered * self.min_images:
            raise ValueError("fewer images of a class than the sites may enter")

    def _check_moments(self, moments: FeatureMoments, *, most: int) -> None:
        if not 0 <= moments.count <= most:
            raise ValueError("more images were looked at than the sites may enter")
        largest = moments.count * LARGEST_FEATURE
        if np.abs(moments.total).max() > largest:
            raise ValueError("features beyond their bound")
        if np.abs(moments.products).max() > largest * LARGEST_FEATURE:
            raise ValueError("products of features beyond their bound")
