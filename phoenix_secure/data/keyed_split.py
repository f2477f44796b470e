"""The split by a keyed hash of each image's own content: no image moves another.

Differential privacy compares two folders that differ in one image. Where the parts follow from
the number or the order of the files, one image more changes which *others* are trained on, and the
guarantee of the training no longer speaks of the folder. Here each image is hashed by itself,

    tag(x) = HMAC-SHA256(key, label | dtype, shape | pixels),

and four independent quarters of the tag say whether it is used, in which part, at which simulated
site, and at which place. Two folders that differ in one image then differ in that one alone, for
every key: the guarantee does not rest on the key's secrecy. The key is secret so that nobody can
compute who was held out.

Where the set says whose image each is, the tag is of the person in place of the image: all images
of one are used or not, in one part, at one site. A person more then moves no other person.

The class is no part of the hash. Equal pictures in two class folders share their role, so that no
copy of a member is held out; and class numbers, which one new class shifts, move nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.split import HELD_OUT, MEMBER, REFERENCE, UNUSED, Split, from_roles
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.rng import SeedTree
from phoenix_secure.secret_files import read_secret, write_secret

__all__ = [
    "group_tags",
    "image_tags",
    "keyed_order",
    "keyed_roles",
    "keyed_split",
    "open_split_key",
    "seeded_split_key",
    "set_order",
    "set_tags",
    "site_of_tag",
]

Tags = npt.NDArray[np.uint64]

_KEY_SIZE = 32
_LABEL = b"phoenix-secure/image-tag/v1:"
_GROUP_LABEL = b"phoenix-secure/group-tag/v1:"
_PART, _USED, _SITE, _PLACE = range(4)  # quarters of a tag


def open_split_key(path: Path) -> bytes:
    """The site's secret key in ``path``, made from the operating system's randomness at first use.

    Raises:     ConfigError when the file can be read by others or holds something else.
    """
    if not path.exists():
        write_secret(path, os.urandom(_KEY_SIZE))
    return read_secret(path, size=_KEY_SIZE)


def seeded_split_key(seeds: SeedTree) -> bytes:
    """The key of a simulation: 256 bits that follow from its seed, so that it repeats.

    Whoever knows the seed can compute the roles of images that he holds.
    """
    return seeds.child("split-key").entropy().to_bytes(_KEY_SIZE, "big")


def image_tags(images: npt.NDArray[np.uint8], *, key: bytes) -> Tags:
    """The tag of each image, as four 64-bit words.

    Shape:      images (N, C, H, W) uint8; (N, 4) out.
    Guarantee:  row i is a function of the key and of image i alone.
    Raises:     ValueError for other images or a key that is not 32 bytes.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"expected (N, C, H, W) uint8 images, got {images.shape} {images.dtype}")
    if len(key) != _KEY_SIZE:
        raise ValueError(f"expected a key of {_KEY_SIZE} bytes")
    form = _LABEL + f"uint8{images.shape[1:]}:".encode()
    digests = [hmac.digest(key, form + image.tobytes(), hashlib.sha256) for image in images]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 4)


def group_tags(groups: npt.NDArray[np.int64], *, key: bytes) -> Tags:
    """The tag of each image's person, as four 64-bit words.

    Shape:      groups (N,) int64; (N, 4) out.
    Guarantee:  row i is a function of the key and of groups[i] alone.
    Raises:     ValueError for other groups or a key that is not 32 bytes.
    """
    if groups.ndim != 1 or groups.dtype != np.int64:
        raise ValueError(f"expected (N,) int64 groups, got {groups.shape} {groups.dtype}")
    if len(key) != _KEY_SIZE:
        raise ValueError(f"expected a key of {_KEY_SIZE} bytes")
    people, of_image = np.unique(groups, return_inverse=True)
    digests = [
        hmac.digest(key, _GROUP_LABEL + number.tobytes(), hashlib.sha256)
        for number in people.astype("<i8")
    ]
    tags = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 4)
    return tags[of_image]


def set_tags(image_set: ImageSet | SiteImages, *, key: bytes) -> Tags:
    """What decides about each image: the tag of its person where the set knows one, else its own.

    Shape:      (N, 4).
    """
    if image_set.groups is not None:
        return group_tags(image_set.groups, key=key)
    return image_tags(image_set.images, key=key)


def set_order(image_set: ImageSet | SiteImages, *, key: bytes) -> npt.NDArray[np.int64]:
    """``keyed_order`` of a set; the images of one person stand together, in the order of their
    own tags."""
    own = keyed_order(image_tags(image_set.images, key=key), labels=image_set.labels)
    if image_set.groups is None:
        return own
    tags = group_tags(image_set.groups, key=key)
    rank = np.empty(len(own), np.int64)
    rank[own] = np.arange(len(own))
    return keyed_order(tags, labels=rank)


def keyed_order(
    tags: Tags, *, labels: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """The indices in the order of the tags; equal images in the order of their labels.

    Guarantee:  a function of the images as a multiset: leaving one out leaves the order of the
                others as it was, and so does any other order of the files.
    """
    ties = np.zeros(len(tags), np.int64) if labels is None else labels
    return np.lexsort((ties, tags[:, _PART], tags[:, _USED], tags[:, _SITE], tags[:, _PLACE]))


def site_of_tag(tags: Tags, *, num_sites: int) -> npt.NDArray[np.int64]:
    """The simulated site of each image, uniform to 2^-50: (N, 4) in, (N,) in 0..num_sites-1 out."""
    return (tags[:, _SITE] % np.uint64(num_sites)).astype(np.int64)


def keyed_roles(
    tags: Tags, *, held_out: float, reference: float, fraction: float = 1.0
) -> npt.NDArray[np.uint8]:
    """The part of each image: ``MEMBER``, ``HELD_OUT``, ``REFERENCE`` or ``UNUSED``.

    Units:      an image is used with probability ``fraction``, and if so is held out or a
                reference with the probabilities ``held_out`` and ``reference``.
    Guarantee:  each entry follows from its own tag. A smaller fraction lies in a larger one.
    Raises:     ConfigError for bad fractions.
    """
    for setting, value in (("held_out", held_out), ("reference", reference)):
        if not 0 <= value < 1:  # also refuses NaN
            raise ConfigError(f"{setting} must be a fraction in [0, 1), got {value}")
    if not (held_out + reference < 1 and 0 < fraction <= 1):
        raise ConfigError(
            "expected held_out + reference < 1 and 0 < fraction <= 1, got "
            f"{held_out} + {reference} and {fraction}: they leave no member"
        )
    part = tags[:, _PART]
    roles = np.full(len(tags), MEMBER, np.uint8)
    roles[_below(part, held_out + reference)] = REFERENCE
    roles[_below(part, held_out)] = HELD_OUT
    roles[~_below(tags[:, _USED], fraction)] = UNUSED
    return roles


def keyed_split(
    image_set: ImageSet,
    *,
    key: bytes,
    held_out: float,
    reference: float,
    fraction: float = 1.0,
    seed: int,
) -> Split:
    """Every image in the part that its tag says (``set_tags``); each part in the order of the tags.

    Guarantee:  one image more or less changes one entry of one part, and neither the parts nor the
                order of the others; equal images share their part. Sizes are binomial around the
                fractions, and no part is stratified by class: both would depend on other images.
                With groups: one person more or less changes the entries of one part that are that
                person's, no person has images in two parts, and fractions are of people.
    Raises:     ConfigError as ``keyed_roles``; DataError when no member is left.
    """
    tags = set_tags(image_set, key=key)
    roles = keyed_roles(tags, held_out=held_out, reference=reference, fraction=fraction)
    if not (roles == MEMBER).any():
        raise DataError(
            f"no member is left among the images: lower held_out={held_out} or "
            f"reference={reference}, raise fraction={fraction}, or use more images"
        )
    return from_roles(
        roles,
        dataset_digest=image_set.digest(),
        seed=seed,
        order=set_order(image_set, key=key),
        scheme="keyed",
    )


def _below(words: npt.NDArray[np.uint64], probability: float) -> npt.NDArray[np.bool_]:
    """True with ``probability`` (to 2^-64) for uniform words."""
    if probability >= 1:
        return np.ones(len(words), np.bool_)
    return words < np.uint64(math.floor(math.ldexp(probability, 64)))
