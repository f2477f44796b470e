"""Load a data set by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phoenix_secure.config import DataConfig
from phoenix_secure.data.bundled import load_digits, load_mnist_5k
from phoenix_secure.data.cache import read_cached
from phoenix_secure.data.catalogue import CATALOGUE, DATASETS, facts_of
from phoenix_secure.data.class_order import in_class_order
from phoenix_secure.data.folder import load_folder
from phoenix_secure.data.groups import GroupRule, Spellings, person
from phoenix_secure.data.hub_names import hub_name
from phoenix_secure.data.huggingface import load_huggingface
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.keyed_split import seeded_split_key
from phoenix_secure.data.nifti import Axis, Slices
from phoenix_secure.data.npz import load_npz
from phoenix_secure.data.parts import PARTS
from phoenix_secure.data.percentiles import Percentiles, as_window
from phoenix_secure.data.pixels import check_form, conform_set
from phoenix_secure.data.scale import check_window
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.extensions import ExtensionPoint, extension, extension_names
from phoenix_secure.rng import SeedTree

__all__ = [
    "DATASETS",
    "decoded_folder",
    "load_images",
    "load_run_images",
    "load_test_images",
    "rules_of",
    "slices_of",
]

_NO_RULES = ReadingRules()

_NEEDS_PATH = {
    "image-folder": "the folder that holds the images",
    "npz": "the .npz file",
    "huggingface": "a local folder of parquet files, or hf://OWNER/NAME",
}


def load_images(
    name: str,
    *,
    path: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    cache_dir: Path,
    max_images: int | None = None,
    rules: ReadingRules = _NO_RULES,
) -> ImageSet:
    """Load the set ``name``: the training part where a test part is published too.

    ``path`` is the folder, the .npz file, or the data set id, for the sets that the user brings.
    ``rules.each_alone`` reads those as differential privacy needs it: no image decides how another
    is read. One that cannot be read is left out and named in the log, in place of an error; form,
    scale and classes must be stated and never follow from the images.

    Shape:      (N, C, H, H) uint8. ``image_size`` and ``channels`` None keep what the images have;
                otherwise they are brought to it as ``pixels.conform_picture`` says.
    Guarantee:  the same images in the same order on every machine; at most ``max_images`` of
                them, chosen as ``selection.balanced_indices`` says, which no run's seed changes.
    Raises:     ConfigError for a bad setting; DataError for an unknown name, a set that is not
                fetched yet, or images that are missing, damaged or not of one form; NoImages where
                ``rules.each_alone`` leaves none.
    """
    if rules.each_alone and name in _NEEDS_PATH:
        _require_stated(name, image_size=image_size, channels=channels, max_images=max_images)
        _require_not_strict(rules)
    return _load(name, path, image_size, channels, cache_dir, max_images, test=False, rules=rules)


def load_run_images(data: DataConfig, *, seed: int, cache_dir: Path) -> ImageSet:
    """The images of a simulation, before its split; ``data.split`` must be spelt out.

    ``seed`` is the run's: the key of the numbers in ``groups`` follows from it.

    Raises:     as ``load_images``.
    """
    path = Path(data.path or "").expanduser()
    is_local = data.name in _NEEDS_PATH and hub_name(data.path or "") is None
    if is_local and not path.is_absolute() and not path.exists():
        # Settings of a run are absolute, but for runs of earlier versions.
        raise DataError(
            f"nothing at {path} below {Path.cwd()}: data.path is relative to where the run was "
            "started; go there first"
        )
    found = load_images(
        data.name,
        path=data.path,
        image_size=data.image_size,
        channels=data.channels,
        cache_dir=cache_dir,
        max_images=data.max_images,
        rules=rules_of(data, cache_dir=cache_dir, group_key=seeded_split_key(SeedTree(seed))),
    )
    return in_class_order(found, data.class_names, each_alone=data.split == "keyed")


def rules_of(data: DataConfig, *, cache_dir: Path, group_key: bytes | None = None) -> ReadingRules:
    """How a run reads its images; ``data.split`` must be spelt out.

    ``group_key``, 32 secret bytes, is needed where ``data.group`` is set.
    """
    group = None
    if data.group is not None and group_key is not None:
        group = GroupRule.of(data.group, key=group_key)
    return ReadingRules(
        part=data.part,
        window=as_window(data.window),
        group=group,
        slices=slices_of(data),
        strict=data.strict,
        each_alone=data.split == "keyed",
        cache=decoded_folder(cache_dir) if data.cache else None,
    )


def slices_of(data: DataConfig) -> Slices | None:
    """The slices that the settings ask for."""
    if data.slices is None:
        return None
    return Slices(axis=Axis(data.slices.axis), step=data.slices.step)


def decoded_folder(cache_dir: Path) -> Path:
    """Where decoded pictures are kept, for whoever asks for it."""
    return cache_dir / "decoded"


def load_test_images(
    name: str,
    *,
    path: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    cache_dir: Path,
    max_images: int | None = None,
) -> ImageSet:
    """Load the published test part of ``name``; everything else is as in ``load_images``.

    Raises:     DataError too for a set without one: hold images out with ``split.make_split``.
    """
    return _load(name, path, image_size, channels, cache_dir, max_images, test=True)


def _load(
    name: str,
    path: str | None,
    image_size: int | None,
    channels: int | None,
    cache_dir: Path,
    max_images: int | None,
    *,
    test: bool,
    rules: ReadingRules = _NO_RULES,
) -> ImageSet:
    if not isinstance(rules.window, Percentiles):
        check_window(rules.window)
    elif rules.each_alone:
        raise ConfigError(
            f"data.window {rules.window} follows from the images, and with data.split keyed one "
            "would move it for all: set data.window to two numbers"
        )
    if rules.part not in (None, *PARTS):
        raise ConfigError(f"part must be one of {', '.join(PARTS)}, got {rules.part}")
    if name not in _NEEDS_PATH and (rules.part, rules.window) != (None, None):
        raise ConfigError(f"part and window are for {', '.join(_NEEDS_PATH)}, not for {name}")
    if rules.group is not None and name in CATALOGUE and name not in _NEEDS_PATH:
        raise ConfigError(f"data.group is for {', '.join(_NEEDS_PATH)}, not for {name}")
    if name in extension_names(ExtensionPoint.DATA_SOURCE):
        check_form(image_size=image_size, channels=channels, max_images=max_images)
        if test:
            raise DataError(f"{name} has no published test part: hold images out with make_split")
        whole = _subset(_extended(name, path, group=rules.group), max_images=max_images)
        return conform_set(_taken_whole(whole), image_size=image_size, channels=channels)
    facts = facts_of(name)
    check_form(image_size=image_size, channels=channels, max_images=max_images)
    if name in _NEEDS_PATH and not path:
        raise ConfigError(f"{name} needs path: set it to {_NEEDS_PATH[name]}")
    if name not in _NEEDS_PATH and path:
        raise ConfigError(f"{name} takes no path: leave it out, or use one of {list(_NEEDS_PATH)}")
    if test and not (facts.is_fetched or name in ("huggingface", "npz")):
        raise DataError(f"{name} has no published test part: hold images out with make_split")
    location = path or ""
    inspection = Inspection(location or name, rules)
    match name:
        case "image-folder":
            return load_folder(
                Path(location).expanduser(),
                image_size=image_size,
                channels=channels,
                max_images=max_images,
                inspection=inspection,
            )
        case "huggingface":
            return load_huggingface(
                location,
                image_size=image_size,
                channels=channels,
                max_images=max_images,
                cache_dir=cache_dir,
                inspection=inspection,
                test=test,
            )
        case "npz":
            whole = load_npz(
                Path(location).expanduser(),
                max_images=max_images,
                inspection=inspection,
                test=test,
            )
        case "mnist-5k":
            whole = _taken_whole(_subset(load_mnist_5k(), max_images=max_images))
        case "digits":
            whole = _taken_whole(_subset(load_digits(), max_images=max_images))
        case _:
            published = _published(name, cache_dir=cache_dir, test=test)
            whole = _taken_whole(_subset(published, max_images=max_images))
    return conform_set(whole, image_size=image_size, channels=channels)


def _require_stated(
    name: str, *, image_size: int | None, channels: int | None, max_images: int | None
) -> None:
    if image_size is None or channels is None:
        raise ConfigError(
            f"data.split keyed with {name} needs data.image_size and data.channels: the form would "
            "follow from the images"
        )
    if max_images is not None:
        raise ConfigError(
            "data.max_images looks at all images, and one more would change which others are "
            "used: with data.split keyed set data.fraction in its place"
        )


def _require_not_strict(rules: ReadingRules) -> None:
    if rules.strict:
        raise ConfigError(
            "data.strict lets one image decide whether a run starts, against data.split keyed: "
            "check the images with `phoenix-secure data show --strict` in its place"
        )


def _taken_whole(image_set: ImageSet) -> ImageSet:
    """A set that is not the user's: its content is known, and nothing was passed over."""
    inspection = Inspection(image_set.source, _NO_RULES)
    inspection.saw_bits(8)
    labels_from = "none" if image_set.labels is None else "the set"
    return inspection.finish(image_set, labels_from=labels_from, scale="bytes")


def _extended(name: str, path: str | None, *, group: GroupRule | None) -> ImageSet:
    """The images of an installed source; whose they are, in the entry that ``group`` names.

    Raises:     DataError naming what is wrong with them.
    """
    found = extension(ExtensionPoint.DATA_SOURCE, name)(path)
    try:
        labels, groups = found.get("labels"), None
        if group is not None:
            people = found.get(group.name)
            if people is None:
                raise ValueError(f"it has no entry {group.name}, which data.group names")
            named = [person(each, name=name, rule=group) for each in people]
            spellings = Spellings(group, each_alone=False)
            for number, each in enumerate(named):
                spellings.take(each, name=f"image {number} of {name}")
            groups = np.array([group.number(each) for each in named], np.int64)
        return ImageSet(
            name=name,
            images=np.asarray(found["images"]),
            labels=None if labels is None else np.asarray(labels, np.int64),
            class_names=tuple(map(str, found.get("class_names", ()))),
            source=str(found.get("source", f"extension {name}")),
            licence=str(found.get("licence", "not stated")),
            groups=groups,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"the data source {name} gave no usable images: {error}") from error


def _published(name: str, *, cache_dir: Path, test: bool) -> ImageSet:
    facts = facts_of(name)
    arrays, source = read_cached(name, cache_dir=cache_dir, test=test)
    return ImageSet(
        name=name,
        images=arrays.images,
        labels=arrays.labels,
        class_names=facts.class_names,
        source=f"{source}, {'test' if test else 'training'} part",
        licence=facts.licence,
    )


def _subset(image_set: ImageSet, *, max_images: int | None) -> ImageSet:
    if max_images is None or max_images >= image_set.num_images:
        return image_set
    return image_set.take(
        balanced_indices(image_set.labels, num_images=image_set.num_images, max_images=max_images)
    )
