"""Images from the user's own .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.groups import GroupKind, GroupRule, Spellings, person
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import WHOLE_SET, Inspection
from phoenix_secure.data.labels import numbered, pick_label
from phoenix_secure.data.layout import channels_first
from phoenix_secure.data.parts import part_of_name
from phoenix_secure.data.percentiles import Percentiles, ValueCounts
from phoenix_secure.data.scale import to_bytes
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.data.stored_image import require_finite
from phoenix_secure.errors import ConfigError, DataError, NoImages

__all__ = ["load_npz"]

_IMAGES, _NAMES = "images", "class_names"


def load_npz(
    path: Path, *, max_images: int | None, inspection: Inspection, test: bool = False
) -> ImageSet:
    """The arrays ``images`` and, if present, ``labels`` and ``class_names`` of an .npz file.

    The names ``train_images``/``train_labels`` and ``test_images``/``test_labels`` (MedMNIST's
    layout) are recognised as well; ``test`` asks for the latter. Labels may be called otherwise, as
    ``labels.pick_label`` knows; arrays that are not used are named in the inventory.

    Shape:      images (N, H, H), (N, H, H, C) or (N, C, H, H) with C in {1, 3}; labels (N,) or
                (N, 1) integers.
    Units:      as ``scale.to_bytes``; which scale was assumed stands in ``source``.
    Guarantee:  no pickle is ever read. Where no image may decide about another, the pixels must be
                uint8 or a window be set, since no scale is read off the images; labels count only
                beside ``class_names``, and an image whose label has no name is left out.
    Raises:     DataError that names the file and the array, and says what to do; NoImages.
    """
    arrays = read_arrays(path, advice="write one with np.savez(path, images=..., labels=...)")
    each_alone = inspection.rules.each_alone
    prefix, part = _prefix(arrays, test=test, path=path, inspection=inspection)
    raw = arrays[f"{prefix}{_IMAGES}"]
    group_key = _group_key(arrays, prefix, path=path, rule=inspection.rules.group)
    label_key = _label_key(arrays, prefix, group_key=group_key, inspection=inspection)
    labels = None if label_key is None else arrays[label_key]
    people = None if group_key is None else arrays[group_key]
    if each_alone and raw.ndim in (3, 4) and len(raw) == 0:
        raise NoImages(f"{path} holds no image")
    raw = channels_first(raw, num_labels=_stated_number(raw, labels, each_alone), name=str(path))
    class_names: tuple[str, ...] = ()
    names = arrays.get(_NAMES)
    groups = None
    if people is not None:
        raw, labels, groups = _with_groups(raw, labels, people, path=path, inspection=inspection)
    if each_alone:
        raw = _each_alone_form(raw, path=path, inspection=inspection)
        whole, labels, class_names = _named(raw, labels, names, path=path, inspection=inspection)
        raw = raw[whole]
        groups = None if groups is None else groups[whole]
    elif labels is not None:
        labels, class_names = _checked_labels(labels, names, num_images=len(raw), path=path)
    if isinstance(inspection.rules.window, Percentiles):
        counts = ValueCounts()
        for image in raw:
            counts.add(require_finite(image, name=str(path)))
        inspection.set_window(counts.window(inspection.rules.window, name=str(path)))
    if each_alone and inspection.window is None:
        pixels, scale = raw, "bytes"
    else:
        pixels, scale = to_bytes(raw, window=inspection.window, name=str(path))
    if each_alone:
        scale = scale.partition(" (")[0]  # the values found would follow from the images
    inspection.saw_bits(8 * raw.dtype.itemsize)
    chosen = balanced_indices(labels, num_images=len(raw), max_images=max_images)
    for index in range(len(raw) - len(chosen)):
        inspection.not_chosen(f"image {len(chosen) + index + 1}", why="beyond max_images")
    facts = facts_of("npz")
    image_set = ImageSet(
        name=facts.name,
        images=pixels[chosen],
        labels=None if labels is None else labels[chosen],
        class_names=class_names,
        source=f"{path}, pixels read as {scale}",
        licence=facts.licence,
        groups=None if groups is None else groups[chosen],
    )
    labels_from = "none" if labels is None else f"array {label_key}"
    return inspection.finish(image_set, labels_from=labels_from, scale=scale, part=part)


def _prefix(
    arrays: dict[str, Any], *, test: bool, path: Path, inspection: Inspection
) -> tuple[str, str]:
    """What stands before ``images`` in the name of the array that is read, and its part."""
    wanted = "test" if test else inspection.rules.part
    prefixes = {key.removesuffix(_IMAGES) for key in arrays if key.endswith(_IMAGES)}
    parts = {p: part for p in sorted(prefixes) if p and (part := part_of_name(p))}
    if wanted == "all":
        raise DataError(f"{path}: data.part all is for folders: name one part of an .npz file")
    if wanted in (None, "train") and "" in prefixes:
        if "train" in parts.values():
            raise DataError(f"{path} holds {_IMAGES} and training images: keep one of the two")
        prefix, part = "", wanted or WHOLE_SET
    else:
        wanted = wanted or "train"
        found = [p for p, named in parts.items() if named == wanted]
        if len(found) != 1:
            expected = "test_images" if wanted == "test" else _expected(wanted, parts)
            raise DataError(
                f"{path} has no array {expected}, only {', '.join(sorted(arrays)) or 'nothing'}: "
                f"save one with np.savez(path, {expected}=..., "
                f"{expected.replace(_IMAGES, 'labels')}=...)"
            )
        prefix, part = found[0], wanted
    for other, named in parts.items():
        if other != prefix:
            inspection.not_chosen(f"{other}{_IMAGES}", why=f"array(s) of the {named} part")
    return prefix, part


def _expected(wanted: str, parts: dict[str, str]) -> str:
    if wanted == "train":
        return f"train_{_IMAGES}" if "train" in parts.values() else _IMAGES
    return f"val_{_IMAGES}"


def _group_key(
    arrays: dict[str, Any], prefix: str, *, path: Path, rule: GroupRule | None
) -> str | None:
    """The array that says whose image each is: of the part that is read, or of the only one."""
    if rule is None:
        return None
    if rule.kind is not GroupKind.ARRAY:
        raise ConfigError(f"data.group {rule} is not for an .npz file: name an array, array:NAME")
    found = [name for name in (prefix + rule.name, rule.name) if name in arrays]
    if not found:
        raise DataError(
            f"{path} has no array {prefix + rule.name}, as data.group {rule} needs, only "
            f"{', '.join(sorted(arrays))}"
        )
    return found[0]


def _with_groups(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None,
    people: npt.NDArray[Any],
    *,
    path: Path,
    inspection: Inspection,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[np.int64]]:
    """The images of which ``people`` (N,) or (N, 1) says whose they are, and whose."""
    rule = inspection.rules.group
    if people.shape == (len(images), 1):
        people = people[:, 0]
    if rule is None or people.shape != (len(images),) or people.dtype.kind not in "iuUS":
        raise DataError(
            f"{path}: the array of data.group {rule} has shape {people.shape} and type "
            f"{people.dtype}, expected text or whole numbers, one for each of {len(images)} images"
        )
    groups = np.zeros(len(images), np.int64)
    whole = np.ones(len(images), bool)
    spellings = Spellings(rule, each_alone=inspection.rules.each_alone)
    for index, value in enumerate(people.tolist()):
        what = f"image {index} of {path}"
        try:
            named = spellings.take(person(value, name=what, rule=rule), name=what)
            groups[index] = rule.number(named)
        except DataError as error:
            if not inspection.rules.each_alone:
                raise
            inspection.leave_out(what, error)
            whole[index] = False
    if not whole.any():
        raise NoImages(f"{path}: data.group {rule} names nobody for any image")
    of_whole = labels[whole] if labels is not None and len(labels) == len(images) else labels
    return images[whole], of_whole, groups[whole]


def _label_key(
    arrays: dict[str, Any], prefix: str, *, group_key: str | None, inspection: Inspection
) -> str | None:
    """The array that holds the labels; those that are used for nothing are passed over."""
    own = [
        key.removeprefix(prefix) for key in arrays if key.startswith(prefix) and key != group_key
    ]
    label, unused = pick_label(own)
    key = None if label is None else prefix + label
    if key is None and prefix:
        key, _ = pick_label(arrays)
    used = {f"{prefix}{_IMAGES}", _NAMES, key, group_key}
    looks = {prefix + name for name in unused}
    for name in sorted(set(arrays) - used):
        if part_of_name(name) not in (None, part_of_name(prefix)):
            if not name.endswith(_IMAGES):
                inspection.not_chosen(name, why="array(s) of another part")
        elif name in looks:
            inspection.pass_over(name, why="array(s) that look like labels, too")
        else:
            inspection.pass_over(name, why="array(s) that are neither images nor labels")
    return key


def _stated_number(
    images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, each_alone: bool
) -> int | None:
    """How many images there are, as far as anything but the shape of ``images`` says so.

    Where no image may decide about another, the first axis counts them: whether there are three
    must make no difference.
    """
    counted = images if each_alone else labels
    return len(counted) if counted is not None and counted.ndim else None


def _each_alone_form(
    images: npt.NDArray[Any], *, path: Path, inspection: Inspection
) -> npt.NDArray[Any]:
    """Images whose scale is stated, by their type or by a window."""
    if inspection.window is None and images.dtype != np.uint8:
        raise DataError(
            f"{path}: images are {images.dtype}, and with data.split keyed they must be uint8: the "
            "scale would follow from the images; save 0..255 as uint8, or set data.window"
        )
    return images


def _named(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None,
    names: npt.NDArray[Any] | None,
    *,
    path: Path,
    inspection: Inspection,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Which images are finite with a label that has a name, and these labels; unlabelled where the
    file names no class."""
    whole = np.ones(len(images), bool)
    if images.dtype.kind == "f":
        whole = np.isfinite(images).reshape(len(images), -1).all(axis=1)
        for index in np.flatnonzero(~whole):
            what = f"image {index} of {path}"
            inspection.leave_out(what, f"{what} holds NaN or infinity")
        if not whole.any():
            raise NoImages(f"{path}: no image is finite")
    if labels is None or names is None:
        return whole, None, ()
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: expected one integer label for each of {len(images)} images")
    class_names = _class_names(names, path=path)
    has_name = (labels >= 0) & (labels < len(class_names))
    for index in np.flatnonzero(~has_name):
        what = f"image {index} of {path}"
        inspection.leave_out(what, f"{what} has a label without a name")
    has_name &= whole
    if not has_name.any():
        raise NoImages(f"{path}: no image has a label with a name: fix class_names")
    return has_name, labels[has_name].astype(np.int64), class_names


def _checked_labels(
    labels: npt.NDArray[Any], names: npt.NDArray[Any] | None, *, num_images: int, path: Path
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    if labels.shape == (num_images, 1):
        labels = labels[:, 0]
    if labels.shape != (num_images,):
        raise DataError(
            f"{path}: labels have shape {labels.shape}, expected one for each of "
            f"{num_images} images"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels are {labels.dtype}, expected integers 0, 1, 2, ...")
    known = None if names is None else _class_names(names, path=path)
    return numbered(labels, names=known, where=str(path))


def _class_names(names: npt.NDArray[Any], *, path: Path) -> tuple[str, ...]:
    listed = tuple(names.tolist()) if names.ndim == 1 and names.dtype.kind == "U" else ()
    if not listed or len(set(listed)) < len(listed):
        raise DataError(f"{path}: class_names must be different strings, one for each label")
    return listed
