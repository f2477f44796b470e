"""Images of a set that are equal, or nearly so: a model memorises them first.

Near ones are found by the difference hash of Krawetz (2013, hackerfactor.com, "Kind of Like That"):
an image is brought to 9 x 8 pixels by averaging, and each of 64 bits says whether a pixel is
brighter than its left neighbour. Two are near where at most two bits differ, and the small images
differ by at most six grey levels on average (flat images, whose bits say nothing, would all be
near). Rescaling, recompression and a little brightness are found; crops and turns are not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.images import ImageSet

__all__ = ["Duplicates", "difference_hashes", "find_duplicates"]

_MAX_BITS, _MAX_LEVELS = 2, 6.0
_WORDS = (21, 21, 22)  # of the 64 bits: of hashes that differ in two bits one word is equal
_CHUNK = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Counts of images.

    exact           whose pixels equal those of an earlier image
    near            that have one nearly like them, and not equal
    is_across       (N,) which are exact or near duplicates of another person's; None without groups
    """

    exact: int
    near: int
    is_across: npt.NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def across_groups(self) -> int | None:
        """How many are duplicates of another person's."""
        return None if self.is_across is None else int(self.is_across.sum())


def find_duplicates(image_set: ImageSet) -> Duplicates:
    """Compare all images with all others, by hashes."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in image_set.images]
    _, content = np.unique(np.array(digests, "S32"), return_inverse=True)
    groups = image_set.groups
    near, across = _near(image_set.images, content, groups)
    if groups is not None:
        pairs = np.unique(np.stack([content, groups], axis=1), axis=0)
        of_several = np.bincount(pairs[:, 0], minlength=content.max() + 1) > 1
        across |= of_several[content]
    return Duplicates(
        exact=image_set.num_images - len(np.unique(content)),
        near=int(near.sum()),
        is_across=None if groups is None else across,
    )


def difference_hashes(
    images: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """The 64-bit hash of each image (N, C, H, W) uint8, and the small image (N, 72) behind it."""
    rows, columns = (
        _averages(size, to) for size, to in ((images.shape[2], 8), (images.shape[3], 9))
    )
    small = np.empty((len(images), 8, 9), np.float32)
    for start in range(0, len(images), _CHUNK):
        grey = images[start : start + _CHUNK].mean(axis=1, dtype=np.float32)
        small[start : start + _CHUNK] = rows @ grey @ columns.T
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(images), 64)
    packed = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return packed.astype(np.uint64), small.reshape(len(images), 72)


def _averages(size: int, to: int) -> npt.NDArray[np.float32]:
    """The matrix (to, size) that averages ``size`` pixels over ``to`` equal stretches."""
    ends = np.arange(to + 1) * size / to
    pixel = np.arange(size)
    overlap = np.minimum(ends[1:, None], pixel + 1) - np.maximum(ends[:-1, None], pixel)
    shares: npt.NDArray[np.float32] = (np.clip(overlap, 0, None) * to / size).astype(np.float32)
    return shares


def _near(
    images: npt.NDArray[np.uint8],
    content: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64] | None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which images have a near one, and which one of another group."""
    # One image of each content: equal ones are near the same others.
    _, first = np.unique(content, return_index=True)
    hashes, small = difference_hashes(images[first])
    is_near = np.zeros(len(first), bool)
    is_across = np.zeros(len(first), bool)
    of = None if groups is None else groups[first]
    shift = 0
    for width in _WORDS:
        word = (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)
        shift += width
        order = np.argsort(word, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(word[order])) + 1):
            for start in range(0, len(bucket) if len(bucket) > 1 else 0, _CHUNK):
                mine = bucket[start : start + _CHUNK]
                distance = np.bitwise_count(hashes[mine][:, None] ^ hashes[bucket][None])
                a, b = np.nonzero((distance <= _MAX_BITS) & (mine[:, None] != bucket))
                a, b = mine[a], bucket[b]
                alike = np.zeros(len(a), bool)
                for at in range(0, len(a), 1 << 16):
                    part = slice(at, at + (1 << 16))
                    levels = np.abs(small[a[part]] - small[b[part]]).mean(axis=1)
                    alike[part] = levels <= _MAX_LEVELS
                is_near[a[alike]] = True
                if of is not None:
                    is_across[a[alike & (of[a] != of[b])]] = True
    return is_near[content], is_across[content]
