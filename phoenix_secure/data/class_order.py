"""Labels that count in the classes of the settings, by name: alike at every site."""

from __future__ import annotations

import dataclasses

import numpy as np

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.labels import class_name
from phoenix_secure.errors import DataError, NoImages

__all__ = ["in_class_order"]


def in_class_order(
    image_set: ImageSet, class_names: tuple[str, ...], *, each_alone: bool = False
) -> ImageSet:
    """``image_set`` with the classes ``class_names``, in their order; itself where there are none.

    Raises:     DataError for a set without labels, and for images of another class, which
                ``each_alone`` leaves out; NoImages where that leaves none.
    """
    names = tuple(class_name(name) for name in class_names)
    if not names or image_set.class_names == names:
        return image_set
    if image_set.labels is None:
        raise DataError(
            f"{image_set.name} has no labels, and data.class_names lists {len(names)} classes: put "
            "the images into class folders, add labels, or leave data.class_names out"
        )
    places = {name: place for place, name in enumerate(names)}
    table = np.array([places.get(class_name(name), -1) for name in image_set.class_names])
    labels = table[image_set.labels]
    kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        if not each_alone:
            first = image_set.class_names[image_set.labels[labels < 0][0]]
            raise DataError(
                f"{image_set.name} holds {len(labels) - len(kept):,} image(s) of classes that "
                f"data.class_names does not list, such as {first[:60]!r}: add the class, or move "
                "them away"
            )
        if len(kept) == 0:
            raise NoImages(f"{image_set.name}: no image is of a class in data.class_names")
    whole = dataclasses.replace(image_set, labels=np.maximum(labels, 0), class_names=names)
    return whole if len(kept) == len(labels) else whole.take(kept)
