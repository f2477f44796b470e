"""Members, held-out and reference images: the split that every membership audit rests on.

*Members* train the model. *Held-out* images come from the same source and are never trained on, so
that an attack must tell the two apart. *Reference* images are what an attacker is granted to train
shadow models or calibrate scores; they are neither.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition_schemes import largest_remainder
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.files import write_bytes

__all__ = ["Split", "load_split", "make_split", "save_split"]

_FORMAT = "phoenix-secure/split/v1"
_MEMBER, _HELD_OUT, _REFERENCE = 0, 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Three disjoint parts that together cover a data set.

    Shape:      three sorted int64 index arrays.
    Guarantee:  disjoint and covering 0..N-1, at least one member.
    Raises:     ValueError for anything else.
    """

    members: npt.NDArray[np.int64] = field(repr=False)
    held_out: npt.NDArray[np.int64] = field(repr=False)
    reference: npt.NDArray[np.int64] = field(repr=False)
    dataset_digest: str  # ImageSet.digest() of the whole set
    seed: int  # that the generator was made from; for the record only

    def __post_init__(self) -> None:
        parts = (self.members, self.held_out, self.reference)
        if any(part.ndim != 1 or part.dtype != np.int64 for part in parts):
            raise ValueError("expected three int64 index arrays of one dimension")
        if any((np.diff(part) <= 0).any() for part in parts):
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
        return self.members.size + self.held_out.size + self.reference.size

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
) -> Split:
    """Draw the parts at random, class by class when there are labels; the rest are members.

    Units:      ``held_out`` and ``reference`` are fractions of all images, in [0, 1).
    Guarantee:  exactly round(fraction * num_images) images in each part; each class is
                represented in proportion, to within one image per part unless it is used up.
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
    roles = np.full(num_images, _MEMBER, dtype=np.uint8)
    y = np.zeros(num_images, dtype=np.int64) if labels is None else labels
    _assign(roles, y, role=_HELD_OUT, size=num_held_out, rng=rng)
    _assign(roles, y, role=_REFERENCE, size=num_reference, rng=rng)
    return _from_roles(roles, dataset_digest=dataset_digest, seed=seed)


def save_split(split: Split, path: Path) -> None:
    """Write ``split`` in one step: one byte per image, compressed; no pickle.

    Raises:     StorageError when the disk is full or the folder cannot be written.
    """
    roles = np.empty(split.num_images, dtype=np.uint8)
    for role, part in (
        (_MEMBER, split.members),
        (_HELD_OUT, split.held_out),
        (_REFERENCE, split.reference),
    ):
        roles[part] = role
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(_FORMAT),
        roles=roles,
        dataset_digest=np.array(split.dataset_digest),
        seed=np.array(split.seed, dtype=np.int64),
    )
    write_bytes(path, buffer.getvalue())


def load_split(path: Path, *, image_set: ImageSet | None = None) -> Split:
    """Read a split, and check that it belongs to ``image_set`` when one is given.

    Raises:     DataError for a missing, truncated or foreign file, or another image set.
    """
    advice = "make the split again"
    arrays = read_arrays(path, advice=advice)
    try:
        if str(arrays["format"]) != _FORMAT:
            raise ValueError("another format")
        roles = arrays["roles"]
        if roles.dtype != np.uint8 or roles.ndim != 1 or not np.isin(roles, (0, 1, 2)).all():
            raise ValueError("bad roles")
        split = _from_roles(
            roles, dataset_digest=str(arrays["dataset_digest"]), seed=int(arrays["seed"])
        )
    except (KeyError, TypeError, ValueError) as error:
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
        free = np.flatnonzero((y == label) & (roles == _MEMBER))
        roles[rng.choice(free, size=min(int(count), free.size), replace=False)] = role
    # Rounding can ask a class that is nearly used up for one image too many; others stand in.
    missing = size - int((roles == role).sum())
    if missing:
        roles[rng.choice(np.flatnonzero(roles == _MEMBER), size=missing, replace=False)] = role


def _from_roles(roles: npt.NDArray[np.uint8], *, dataset_digest: str, seed: int) -> Split:
    return Split(
        members=np.flatnonzero(roles == _MEMBER),
        held_out=np.flatnonzero(roles == _HELD_OUT),
        reference=np.flatnonzero(roles == _REFERENCE),
        dataset_digest=dataset_digest,
        seed=seed,
    )
