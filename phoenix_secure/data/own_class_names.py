"""A site's own names of classes, in the words of the plan."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import numpy as np

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.labels import class_name
from phoenix_secure.errors import ConfigError, DataError, NoImages

__all__ = ["OwnClasses", "check_own_classes", "in_words_of_plan"]

_log = logging.getLogger(__name__)

# The site's name of a class -> the plan's, or None for images that take no part.
OwnClasses = Mapping[str, str | None]


def check_own_classes(classes: OwnClasses, *, public: tuple[str, ...]) -> None:
    """Whether ``classes`` lead to classes of the plan, ``public``.

    Raises:     ConfigError naming the setting.
    """
    if not classes:
        return
    if not public:
        raise ConfigError(
            "data.classes in site.yaml names classes of the plan, and this plan has none: it "
            "learns without classes"
        )
    known = set(map(class_name, public))
    for own, theirs in classes.items():
        if theirs is not None and class_name(theirs) not in known:
            raise ConfigError(
                f"data.classes in site.yaml says that {own[:60]!r} is {theirs[:60]!r}, which is no "
                f"class of the plan: use one of {', '.join(public)[:200]}, or null to leave such "
                "images out"
            )


def in_words_of_plan(
    image_set: ImageSet, classes: OwnClasses, *, each_alone: bool = False
) -> ImageSet:
    """``image_set`` with its classes renamed as ``classes`` says; others keep their names.

    Several own classes may be one of the plan's. What is left out is told in the site's own log.

    Raises:     DataError for a set without labels, and for an own class that it does not have,
                which ``each_alone`` passes over: whether there is one follows from the images.
                NoImages where nothing is left.
    """
    if not classes:
        return image_set
    if image_set.labels is None:
        raise DataError(
            f"{image_set.name} has no labels, and data.classes in site.yaml names classes: put the "
            "images into class folders, or leave data.classes out"
        )
    renamed = {class_name(own): theirs for own, theirs in classes.items()}
    own_names = [class_name(name) for name in image_set.class_names]
    missing = sorted(set(renamed) - set(own_names))
    if missing:
        said = (
            f"data.classes in site.yaml names {missing[0][:60]!r}, and {image_set.name} has "
            f"{', '.join(own_names)[:200]}"
        )
        if not each_alone:
            raise DataError(f"{said}: correct the name")
        _log.warning("%s", said)
    targets = [renamed.get(name, name) for name in own_names]
    names = tuple(dict.fromkeys(class_name(name) for name in targets if name is not None))
    table = np.array([-1 if t is None else names.index(class_name(t)) for t in targets], np.int64)
    labels = table[image_set.labels]
    kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        _log.warning("%d image(s) left out by data.classes", len(labels) - len(kept))
        if len(kept) == 0:
            raise NoImages(f"{image_set.name}: data.classes in site.yaml leaves every image out")
    whole = dataclasses.replace(image_set, labels=np.maximum(labels, 0), class_names=names)
    return whole if len(kept) == len(labels) else whole.take(kept)
