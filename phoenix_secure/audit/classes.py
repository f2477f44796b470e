"""The classes of an audit's images: under the numbers that the model was trained with, and alike.

A model knows numbers. A folder's classes are numbered by the order of their names, so that a set of
two classes out of ten would be asked for as classes 0 and 1, and show less than it has.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.data.images import ImageSet
from phoenix_secure.errors import DataError

__all__ = ["find_null_class", "matched_by_class", "number_classes"]

_FEWEST_OF_CLASS = 5  # images by which a class that has none stands out


def number_classes(
    images: AuditImages, *, model: PipelineDenoiser, class_names: tuple[str, ...]
) -> AuditImages:
    """``images`` with the labels that ``model`` is asked for; unchanged for one without classes.

    class_names     of the model, in the order of its numbers; () where its folder has none. Then
                    names that are numbers are those numbers, and other names stand in the order of
                    the model's classes, of which there must be as many.
    Raises:     DataError on one line for labels that are no classes of ``model``, for names that
                nobody numbers, and for no labels where it cannot do without.
    """
    if model.num_classes is None:
        return images
    sets = {
        "members": images.members,
        "non_members": images.non_members,
        "reference": images.reference,
    }
    found = {
        name: _numbered(each, what=_WORDS[name], model=model, class_names=class_names)
        for name, each in sets.items()
        if each is not None
    }
    first = found["members"]
    for name, each in found.items():
        if each.labels is None or first.labels is None:
            continue
        shared = list(zip(first.class_names, each.class_names, strict=False))
        if any(ours != theirs for ours, theirs in shared):
            raise DataError(
                f"the {_WORDS[name]} number their classes differently from the members "
                f"({each.class_names[:3]} ...): give the same class folders to both"
            )
    return dataclasses.replace(
        images,
        members=first,
        non_members=found["non_members"],
        reference=found.get("reference"),
    )


def find_null_class(model: PipelineDenoiser, images: AuditImages) -> int | None:
    """The last class of a model that others trained, where no image has it and all others do.

    Guidance without a classifier is trained with one embedding more than there are classes.
    """
    if model.num_classes is None or model.null_label is not None:
        return model.null_label
    sets = (images.members, images.non_members, images.reference)
    labels = [each.labels for each in sets if each is not None and each.labels is not None]
    if not labels:
        return None
    counts = np.bincount(np.concatenate(labels), minlength=model.num_classes)
    is_spare = counts[-1] == 0 and (counts[:-1] >= _FEWEST_OF_CLASS).all()
    return model.num_classes - 1 if is_spare else None


_WORDS = {"members": "members", "non_members": "non-members", "reference": "reference images"}


def _numbered(
    image_set: ImageSet, *, what: str, model: PipelineDenoiser, class_names: tuple[str, ...]
) -> ImageSet:
    total = model.num_classes or 0
    if image_set.labels is None:
        if model.null_label is None:
            raise DataError(
                f"the model is class-conditional without a null class, and the {what} have no "
                "labels: give each image's class (labels in the .npz, or one folder a class)"
            )
        return image_set
    num = total if model.null_label is None else total - 1
    used = np.unique(image_set.labels)
    names = [image_set.class_names[k] for k in used]
    if class_names and set(names) <= set(class_names):
        numbers = [class_names.index(name) for name in names]
    elif all(name.isascii() and name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
    elif class_names or len(image_set.class_names) not in (num, total - 1):
        known = f" ({', '.join(class_names[:3])} ...)" if class_names else ""
        raise DataError(
            f"the model knows {num} classes{known} by number, and the {what} have "
            f"{len(image_set.class_names)} ({', '.join(image_set.class_names[:3])} ...): name the "
            "folders by the model's class numbers, or give labels in an .npz file"
        )
    else:
        return image_set
    if max(numbers) >= num:
        raise DataError(
            f"the {what} hold class {max(numbers)}, and the model knows {num} classes from 0 on: "
            "give the labels that it was trained with"
        )
    table = np.full(len(image_set.class_names), -1, dtype=np.int64)
    table[used] = numbers
    every = class_names if len(class_names) == num else tuple(map(str, range(num)))
    return dataclasses.replace(image_set, labels=table[image_set.labels], class_names=every)


def matched_by_class(
    labels: NDArray[np.int64],
    own: NDArray[np.int64],
    others: NDArray[np.int64],
    *,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many of one site's images as of unseen ones, class by class.

    Sites hold unlike classes. Against unseen images of all classes, a site's classes would pass for
    its membership.

    labels      of all members, others: of all unseen images; own: the site's members
    Returns:    indices into the members, and into the unseen images.
    """
    ours: list[NDArray[np.int64]] = []
    theirs: list[NDArray[np.int64]] = []
    for label in np.unique(labels[own]):
        of_class = rng.permutation(own[labels[own] == label])
        unseen = rng.permutation(np.flatnonzero(others == label))
        num = min(len(of_class), len(unseen))
        ours.append(of_class[:num])
        theirs.append(unseen[:num])
    return np.concatenate(ours), np.concatenate(theirs)
