"""Members, non-members and reference images of an audit, checked before anything is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.audit.user_column import UserColumn, values_of_file, values_of_run
from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import load_images, load_run_images
from phoenix_secure.data.split import load_split
from phoenix_secure.errors import DataError
from phoenix_secure.federation.run.folder import RunFolder

__all__ = ["AuditImages", "images_of_files", "images_of_run", "load_file"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditImages:
    """Three sets without a common image.

    member_sites:      (N,) the site that holds each member, where a run says so.
    num_duplicates:    non-members and reference images left out because an equal image (pixel for
                       pixel) is a member, or was met before.
    scale:             how the pixels of the files were read.
    column:            what the user groups them by, where asked for.
    """

    members: ImageSet
    non_members: ImageSet
    reference: ImageSet | None
    member_sites: NDArray[np.str_] | None
    num_duplicates: int
    scale: str = "bytes"
    column: UserColumn | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.members.images.shape[1:]
        return int(channels), int(height), int(width)


def images_of_run(folder: RunFolder, *, cache_dir: Path, by: str | None = None) -> AuditImages:
    """The split that the run was trained with, and its data set from the cache.

    Raises:     DataError for a missing split, a data set that is not there or is another one, or a
                run that held nothing out.
    """
    config = folder.load_config()
    data = config.data
    if not folder.split_file.exists():
        raise DataError(
            f"{folder.path} has no split.npz, so that nobody knows who was a member: give "
            "--members and --non-members"
        )
    image_set = load_run_images(data, seed=config.seed, cache_dir=cache_dir)
    split = load_split(folder.split_file, image_set=image_set)
    if len(split.held_out) == 0:
        raise DataError(
            f"{folder.path} held no image out (data.held_out = {data.held_out:g}): give "
            "non-members that were never trained on with --non-members"
        )
    members = image_set.take(split.members)
    seen = set(_fingerprints(members.images))
    kept, dropped = [], 0
    for part in (split.held_out, split.reference):
        fresh = []
        for index, mark in zip(part, _fingerprints(image_set.images[part]), strict=True):
            if mark not in seen:
                seen.add(mark)
                fresh.append(int(index))
        kept.append(fresh)
        dropped += len(part) - len(fresh)
    column = None
    if by is not None:
        values = values_of_run(data, image_set, seed=config.seed, cache_dir=cache_dir, by=by)
        column = UserColumn(name=by, members=values[split.members], non_members=values[kept[0]])
    if not kept[0]:
        raise DataError(f"{folder.path}: every held-out image equals a member: use other images")
    return AuditImages(
        members=members,
        non_members=image_set.take(kept[0]),
        reference=image_set.take(kept[1]) if kept[1] else None,
        member_sites=_sites(folder.path / "sites.npz", split.members, image_set.num_images),
        num_duplicates=dropped,
        scale=_scale_of(image_set),
        column=column,
    )


def images_of_files(
    members: Path,
    non_members: Path,
    reference: Path | None,
    *,
    shape: tuple[int, int, int] | None,
    by: str | None = None,
) -> AuditImages:
    """The user's own folders or .npz files.

    Raises:     DataError where two of them share an image, or an image has another form than the
                model's ``shape`` (C, H, W).
    """
    sets = {
        name: load_file(path)
        for name, path in (
            ("--members", members),
            ("--non-members", non_members),
            ("--reference", reference),
        )
        if path is not None
    }
    scale = _one_scale(sets)
    wanted = shape or sets["--members"].images.shape[1:]
    for name, image_set in sets.items():
        if image_set.channels != wanted[0]:
            kinds = {1: "grey", 3: "RGB"}
            raise DataError(
                f"{name}: images are {kinds[image_set.channels]} where the model has {wanted[0]} "
                f"channel(s): give them as {kinds.get(wanted[0], 'it was trained on them')}"
            )
        if image_set.images.shape[1:] != wanted:
            raise DataError(
                f"{name}: images of shape {image_set.images.shape[1:]} where {tuple(wanted)} is "
                "needed (channels, height, width): resize them first"
            )
    names = list(sets)
    marks = {name: set(_fingerprints(sets[name].images)) for name in names}
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = len(marks[first] & marks[second])
            if shared:
                raise DataError(
                    f"{first} and {second} share {shared} image(s): a member cannot be a "
                    "non-member, remove them from one of the two"
                )
    return AuditImages(
        members=sets["--members"],
        non_members=sets["--non-members"],
        reference=sets.get("--reference"),
        member_sites=None,
        num_duplicates=0,
        scale=scale,
        column=None
        if by is None
        else UserColumn(
            name=by,
            members=values_of_file(members, sets["--members"], by=by),
            non_members=values_of_file(non_members, sets["--non-members"], by=by),
        ),
    )


def load_file(path: Path) -> ImageSet:
    """A folder of pictures or an .npz file, without a cache."""
    name = "npz" if path.suffix.lower() == ".npz" else "image-folder"
    return load_images(name, path=str(path), cache_dir=path)


def _one_scale(sets: dict[str, ImageSet]) -> str:
    """The scale that the pixels of all sets were read in.

    Raises:     DataError where floats were read in different ranges: one of the two would be a
                guess, and members would be told from non-members by their contrast.
    """
    found = {name: _scale_of(image_set) for name, image_set in sets.items()}
    floats = {scale: name for name, scale in found.items() if scale.startswith("floats")}
    if len(floats) > 1:
        told = " and ".join(f"{name} as {scale}" for scale, name in floats.items())
        raise DataError(f"pixels of {told}: save both as uint8, 0..255, to be sure of the scale")
    return ", ".join(f"{name} {scale}" for name, scale in found.items())


def _scale_of(image_set: ImageSet) -> str:
    """How the pixels were read, without the values that were found among them."""
    return image_set.inventory.scale.partition(" (")[0] if image_set.inventory else "bytes"


def _sites(path: Path, members: NDArray[np.int64], num_images: int) -> NDArray[np.str_] | None:
    if not path.exists():
        return None
    advice = "it holds the data partition; delete it to audit without figures per site"
    arrays = read_arrays(path, advice=advice, only=("owner", "sites"))
    owner, names = arrays.get("owner"), arrays.get("sites")
    if (
        owner is None
        or names is None
        or owner.shape != (num_images,)
        or owner.dtype.kind != "i"
        or names.dtype.kind != "U"
        or owner[members].min() < 0
        or owner.max() >= len(names)
    ):
        raise DataError(f"{path} does not fit the run's split: {advice}")
    return np.asarray(names[owner[members]])


def _fingerprints(images: NDArray[np.uint8]) -> Iterable[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)
