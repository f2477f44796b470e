"""Roles of images: settings are chosen on some, the verdict rests on others."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.records import Labels, Records
from phoenix_secure.data.groups import next_group
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.data.keyed_split import seeded_split_key, set_order
from phoenix_secure.errors import DataError
from phoenix_secure.rng import SeedTree

__all__ = ["Group", "Roles", "TooFewImages", "draw_roles"]

_FEWEST = 4  # records a side that anything at all can be computed on


class TooFewImages(DataError):  # noqa: N818 - it is what was found, not what went wrong
    """Members or non-members are too few for any figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Images with their membership; members first.

    Shape:      membership (N,) bool.
    """

    records: Records
    membership: NDArray[np.bool_]

    @property
    def images(self) -> NDArray[np.float32]:
        """(N, C, H, W) float32 in [-1, 1]."""
        return self.records.images

    def digest(self, *, key: bytes | None) -> str:
        """SHA-256 over images and membership; HMAC-SHA256 where they are private."""
        head = f"phoenix-secure/audit-group/v1:{self.images.shape}:".encode()
        state = hashlib.sha256(head) if key is None else hmac.new(key, head, hashlib.sha256)
        state.update(np.ascontiguousarray(self.images, "<f4").data)
        state.update(self.membership.tobytes())
        return state.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Disjoint groups of images.

    choice:         tuning split; settings and signs are chosen here.
    evaluation:     every reported figure comes from here.
    calibration:    real images that are no members and in neither group, or None.
    members, non_members:  indices into the audit's image sets of ``evaluation``, in its order.
    """

    choice: Group
    evaluation: Group
    calibration: Records | None
    members: NDArray[np.int64]
    non_members: NDArray[np.int64]
    choice_source: str  # where the tuning split's non-members come from, for the report

    @property
    def labels(self) -> Labels | None:
        """The classes of both groups; None where those of any image are not known."""
        groups = [self.choice.records.labels, self.evaluation.records.labels]
        if self.calibration is not None:
            groups.append(self.calibration.labels)
        found = [labels for labels in groups if labels is not None]
        return np.concatenate(found) if len(found) == len(groups) else None


def draw_roles(images: AuditImages, *, profile: Profile, seeds: SeedTree) -> Roles:
    """Deal the images out, as many members as non-members in each group.

    Each image has its place by a keyed hash of its own pixels, so that the groups do not follow
    from the order of the files, and two like sets lead to like groups.
    Non-members of the tuning split come from the reference images where there are any, so that all
    held-out images remain for the evaluation; else a quarter of the non-members is set aside.
    Where these shares would be too few for any figure, the tuning split takes the fewest that will
    do, and the evaluation the rest.
    Where the set says whose its images are, one person's stand together in that order, and no
    person has images in two groups: those of the one who would are left out of the later group.

    Raises:     TooFewImages when fewer than four records a side would remain.
    """
    key = seeded_split_key(seeds.child("roles"))
    members = set_order(images.members, key=key)
    others = set_order(images.non_members, key=key)
    reference = images.reference
    calibration = None
    if reference is not None:
        order = set_order(reference, key=key)
        calibration = _records(reference, order)
    num_spare = 0 if calibration is None else len(calibration.images)
    is_wanted = num_spare >= 40 or len(others) // 4 < _FEWEST <= num_spare
    if calibration is not None and reference is not None and is_wanted:
        num = len(calibration.images)
        size = max(_FEWEST, min(profile.max_choice, num // 2, len(members) // 4))
        choice_others = calibration.take(np.arange(size))
        calibration = calibration.take(np.arange(_after(reference, order, size), num))
        source = "reference images"
    else:
        size = max(_FEWEST, min(profile.max_choice, len(others) // 4, len(members) // 4))
        choice_others = _records(images.non_members, others[:size])
        others = others[_after(images.non_members, others, size) :]
        source = "non-members set aside"
    start = _after(images.members, members, size)
    num = min(profile.max_records, len(members) - start, len(others))
    if num < _FEWEST:
        raise TooFewImages(
            f"{images.members.num_images} members and {images.non_members.num_images} non-members "
            f"are too few: at least {2 * _FEWEST} of each are needed for any figure"
        )
    inside, outside = members[start : start + num], others[:num]
    return Roles(
        choice=_group(_records(images.members, members[:size]), choice_others),
        evaluation=_group(_records(images.members, inside), _records(images.non_members, outside)),
        calibration=calibration,
        members=inside,
        non_members=outside,
        choice_source=source,
    )


def _after(image_set: ImageSet, order: NDArray[np.int64], size: int) -> int:
    """Where another group may begin after the first ``size`` images."""
    return next_group(None if image_set.groups is None else image_set.groups[order], size)


def _records(image_set: ImageSet, index: NDArray[np.int64]) -> Records:
    labels = None if image_set.labels is None else image_set.labels[index]
    return Records(images=to_unit_range(image_set.images[index]), labels=labels)


def _group(members: Records, others: Records) -> Group:
    records = members.and_then(others)
    return Group(
        records=records,
        membership=np.arange(len(records.images)) < len(members.images),
    )
