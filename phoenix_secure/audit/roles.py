"""Roles of images: settings are chosen on some, the verdict rests on others."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.data.keyed_split import image_tags, keyed_order, seeded_split_key
from phoenix_secure.errors import DataError
from phoenix_secure.rng import SeedTree

__all__ = ["Group", "Roles", "TooFewImages", "draw_roles"]

_FEWEST = 4  # records a side that anything at all can be computed on


class TooFewImages(DataError):  # noqa: N818 - it is what was found, not what went wrong
    """Members or non-members are too few for any figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Images with their membership; members first.

    Shape:      images (N, C, H, W) float32 in [-1, 1], membership (N,) bool.
    """

    images: NDArray[np.float32]
    membership: NDArray[np.bool_]

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
    calibration: NDArray[np.float32] | None
    members: NDArray[np.int64]
    non_members: NDArray[np.int64]
    choice_source: str  # where the tuning split's non-members come from, for the report


def draw_roles(images: AuditImages, *, profile: Profile, seeds: SeedTree) -> Roles:
    """Deal the images out, as many members as non-members in each group.

    Each image has its place by a keyed hash of its own pixels, so that the groups do not follow
    from the order of the files, and two like sets lead to like groups.
    Non-members of the tuning split come from the reference images where there are any, so that all
    held-out images remain for the evaluation; else a quarter of the non-members is set aside.

    Raises:     TooFewImages when fewer than four records a side remain.
    """
    key = seeded_split_key(seeds.child("roles"))
    members = keyed_order(image_tags(images.members.images, key=key))
    others = keyed_order(image_tags(images.non_members.images, key=key))
    reference = images.reference
    calibration = None
    if reference is not None:
        order = keyed_order(image_tags(reference.images, key=key))
        calibration = _pixels(reference, order)
    if reference is not None and calibration is not None and len(calibration) >= 40:
        size = min(profile.max_choice, len(calibration) // 2, len(members) // 4)
        choice_others, calibration = calibration[:size], calibration[size:]
        source = "reference images"
    else:
        size = min(profile.max_choice, len(others) // 4, len(members) // 4)
        choice_others = _pixels(images.non_members, others[:size])
        others = others[size:]
        source = "non-members set aside"
    num = min(profile.max_records, len(members) - size, len(others))
    if min(num, size) < _FEWEST:
        raise TooFewImages(
            f"{images.members.num_images} members and {images.non_members.num_images} non-members "
            "are too few: at least 20 of each are needed for any figure"
        )
    inside, outside = members[size : size + num], others[:num]
    return Roles(
        choice=_group(_pixels(images.members, members[:size]), choice_others),
        evaluation=_group(_pixels(images.members, inside), _pixels(images.non_members, outside)),
        calibration=calibration,
        members=inside,
        non_members=outside,
        choice_source=source,
    )


def _pixels(image_set: ImageSet, index: NDArray[np.int64]) -> NDArray[np.float32]:
    return to_unit_range(image_set.images[index])


def _group(members: NDArray[np.float32], others: NDArray[np.float32]) -> Group:
    return Group(
        images=np.concatenate([members, others]),
        membership=np.arange(len(members) + len(others)) < len(members),
    )
