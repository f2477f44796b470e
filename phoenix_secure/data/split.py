"""Members, held-out and reference images: the split that every membership audit rests on.

*Members* train the model. *Held-out* images come from the same source and are never trained on, so
that an attack must tell the two apart. *Reference* images are what an attacker is granted to train
shadow models or calibrate scores; they are neither.

There are two schemes. ``stratified`` (here) samples parts of exact sizes, class by class: it serves
experiments without differential privacy. ``keyed`` (``keyed_split``) looks at each image alone.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.groups import majority
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition_schemes import largest_remainder
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.files import write_bytes

__all__ = [
    "HELD_OUT",
    "MEMBER",
    "REFERENCE",
    "UNUSED",
    "Split",
    "from_roles",
    "load_split",
    "make_split",
    "save_split",
]

# v1 is the stratified scheme, whose parts are sorted; v2 holds a scheme and an order.
_FORMAT, _FORMAT_WITH_ORDER = "phoenix-secure/split/v1", "phoenix-secure/split/v2"
MEMBER, HELD_OUT, REFERENCE, UNUSED = 0, 1, 2, 3

Scheme = Literal["stratified", "keyed"]


def _no_indices() -> npt.NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Disjoint parts that together cover a data set, each in the order it is used in.

    Shape:      int64 index arrays; sorted under the scheme ``stratified``.
    Guarantee:  disjoint and covering 0..N-1, at least one member.
    Raises:     ValueError for anything else.
    """

    members: npt.NDArray[np.int64] = field(repr=False)
    held_out: npt.NDArray[np.int64] = field(repr=False)
    reference: npt.NDArray[np.int64] = field(repr=False)
    dataset_digest: str  # ImageSet.digest() of the whole set
    seed: int  # that the generator was made from; for the record only
    unused: npt.NDArray[np.int64] = field(default_factory=_no_indices, repr=False)
    scheme: Scheme = "stratified"

    def __post_init__(self) -> None:
        parts = (self.members, self.held_out, self.reference, self.unused)
        if any(part.ndim != 1 or part.dtype != np.int64 for part in parts):
            raise ValueError("expected int64 index arrays of one dimension")
        if self.scheme == "stratified" and any((np.diff(part) <= 0).any() for part in parts):
            raise ValueError("expected sorted index arrays without repeats")
        together = np.sort(np.concatenate(parts))
        if not self.members.size or not np.array_equal(together, np.arange(together.size)):
            raise ValueError("expected disjoint parts that cover 0..N-1 with at least one member")
        if not re.fullmatch(r"[0-9a-f]{64}", self.dataset_digest):
            raise ValueError("expected dataset_digest to be a SHA-256 in hexadecimal")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"expected 0 <= seed < 2**63, got {self.seed}")

    @property
    def num_images(self) -> int:
        """N, the size of the set that was split."""
        return self.members.size + self.held_out.size + self.reference.size + self.unused.size

    def require_match(self, image_set: ImageSet) -> None:
        """Refuse an image set other than the one that was split.

        Raises:     DataError: with other images, or the same in another order, members and
                    held-out images would be mixed up and every audit figure meaningless.
        """
        if image_set.num_images != self.num_images or image_set.digest() != self.dataset_digest:
            raise DataError(
                f"this split was made for other images than {image_set.name} "
                f"({self.num_images} images with digest {self.dataset_digest[:12]}..., got "
                f"{image_set.num_images}): load the set with the settings the split was made with"
            )


def make_split(
    labels: npt.NDArray[np.int64] | None,
    num_images: int,
    *,
    held_out: float,
    reference: float,
    rng: np.random.Generator,
    dataset_digest: str,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
) -> Split:
    """Sample the parts at random, class by class when there are labels; the rest are members.

    Units:      ``held_out`` and ``reference`` are fractions of all images, in [0, 1).
    Guarantee:  exactly round(fraction * num_images) images in each part; each class is
                represented in proportion, to within one image per part unless it is used up.
                With ``groups`` (N,) all images of one person are in one part, and sizes are as near
                as whole people allow (``_whole_groups``).
    Raises:     ConfigError for bad fractions; DataError when labels and num_images disagree or no
                member is left.
    Source:     Carlini et al. (2022), section IV, arXiv:2112.03570 (the membership game).
    """
    for setting, value in (("held_out", held_out), ("reference", reference)):
        if not 0 <= value < 1:  # also refuses NaN
            raise ConfigError(f"{setting} must be a fraction in [0, 1), got {value}")
    if labels is not None and labels.shape != (num_images,):
        raise DataError(f"expected one label for each of {num_images} images, got {labels.shape}")
    num_held_out, num_reference = round(held_out * num_images), round(reference * num_images)
    if num_held_out + num_reference >= num_images:
        raise DataError(
            f"held_out={held_out} and reference={reference} leave no member among {num_images} "
            "images: lower them or use more images"
        )
    y = np.zeros(num_images, dtype=np.int64) if labels is None else labels
    if groups is not None:
        roles = _whole_groups(
            y, groups, num_held_out=num_held_out, num_reference=num_reference, rng=rng
        )
        return from_roles(roles, dataset_digest=dataset_digest, seed=seed)
    roles = np.full(num_images, MEMBER, dtype=np.uint8)
    _assign(roles, y, role=HELD_OUT, size=num_held_out, rng=rng)
    _assign(roles, y, role=REFERENCE, size=num_reference, rng=rng)
    return from_roles(roles, dataset_digest=dataset_digest, seed=seed)


def save_split(split: Split, path: Path) -> None:
    """Write ``split`` in one step, compressed; no pickle. A stratified one takes a byte per image.

    Raises:     StorageError when the disk is full or the folder cannot be written.
    """
    roles = np.empty(split.num_images, dtype=np.uint8)
    parts = (
        (MEMBER, split.members),
        (HELD_OUT, split.held_out),
        (REFERENCE, split.reference),
        (UNUSED, split.unused),
    )
    for role, part in parts:
        roles[part] = role
    ordered: dict[str, npt.NDArray[np.generic]] = {}
    if split.scheme != "stratified":
        ordered = {
            "scheme": np.array(split.scheme),
            "order": np.concatenate([part for _, part in parts]).astype(np.uint32),
        }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(_FORMAT_WITH_ORDER if ordered else _FORMAT),
        roles=roles,
        dataset_digest=np.array(split.dataset_digest),
        seed=np.array(split.seed, dtype=np.int64),
        **ordered,
    )
    write_bytes(path, buffer.getvalue())


def load_split(path: Path, *, image_set: ImageSet | None = None) -> Split:
    """Read a split, and check that it belongs to ``image_set`` when one is given.

    Raises:     DataError for a missing, truncated or foreign file, or another image set.
    """
    advice = "make the split again"
    arrays = read_arrays(path, advice=advice)
    try:
        roles, digest, seed = arrays["roles"], str(arrays["dataset_digest"]), int(arrays["seed"])
        if roles.dtype != np.uint8 or roles.ndim != 1 or roles.max(initial=0) > UNUSED:
            raise ValueError("bad roles")
        match str(arrays["format"]):
            case "phoenix-secure/split/v1":
                split = from_roles(roles, dataset_digest=digest, seed=seed)
            case "phoenix-secure/split/v2":
                if str(arrays["scheme"]) != "keyed" or arrays["order"].dtype != np.uint32:
                    raise ValueError("another scheme")
                split = from_roles(
                    roles,
                    dataset_digest=digest,
                    seed=seed,
                    order=arrays["order"].astype(np.int64),
                    scheme="keyed",
                )
            case _:
                raise ValueError("another format")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a split file: {advice}") from error
    if image_set is not None:
        split.require_match(image_set)
    return split


def _assign(
    roles: npt.NDArray[np.uint8],
    y: npt.NDArray[np.int64],
    *,
    role: int,
    size: int,
    rng: np.random.Generator,
) -> None:
    """Turn ``size`` random members into ``role``, in proportion to the classes of the whole set."""
    classes, class_sizes = np.unique(y, return_counts=True)
    counts = largest_remainder(np.array([size]), (class_sizes / y.size)[np.newaxis])[0]
    for label, count in zip(classes, counts, strict=True):
        free = np.flatnonzero((y == label) & (roles == MEMBER))
        roles[rng.choice(free, size=min(int(count), free.size), replace=False)] = role
    # Rounding can ask a class that is nearly used up for one image too many; others stand in.
    missing = size - int((roles == role).sum())
    if missing:
        roles[rng.choice(np.flatnonzero(roles == MEMBER), size=missing, replace=False)] = role


def _whole_groups(
    y: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    *,
    num_held_out: int,
    num_reference: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """The part of each image, all images of a group in one.

    The groups stand in a random order in which each class (of a group: its most common one) is
    spread evenly, and parts are cut off where their sizes come nearest to what is asked for.

    Raises:     DataError where no member is left.
    """
    people, of_image, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    label = majority(y, groups)
    by_class = rng.permutation(len(people))
    by_class = by_class[np.argsort(label[by_class], kind="stable")]
    class_sizes = np.unique(label, return_counts=True)[1]
    place = np.concatenate([(np.arange(n) + rng.random()) / n for n in class_sizes])
    order = by_class[np.argsort(place, kind="stable")]
    ends = np.concatenate([[0], np.cumsum(sizes[order])])
    first = int(np.abs(ends - num_held_out).argmin())
    second = first + int(np.abs(ends[first:] - ends[first] - num_reference).argmin())
    if second == len(people):
        raise DataError(
            f"{len(people)} people are too few for whole ones in each part: lower data.held_out "
            "and data.reference, or use more people's images"
        )
    of_group = np.full(len(people), MEMBER, np.uint8)
    of_group[order[:first]] = HELD_OUT
    of_group[order[first:second]] = REFERENCE
    return of_group[of_image]


def from_roles(
    roles: npt.NDArray[np.uint8],
    *,
    dataset_digest: str,
    seed: int,
    order: npt.NDArray[np.int64] | None = None,
    scheme: Scheme = "stratified",
) -> Split:
    """The parts in the given order of all images, or sorted."""
    places = np.arange(roles.size) if order is None else order
    return Split(
        members=places[roles[places] == MEMBER],
        held_out=places[roles[places] == HELD_OUT],
        reference=places[roles[places] == REFERENCE],
        unused=places[roles[places] == UNUSED],
        dataset_digest=dataset_digest,
        seed=seed,
        scheme=scheme,
    )
