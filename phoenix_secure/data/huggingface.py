"""Images from a Hugging Face data set, or from a local folder of its parquet files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.decode import decode_files
from phoenix_secure.data.folder import stack_pictures
from phoenix_secure.data.groups import GroupKind, GroupRule, Spellings, person
from phoenix_secure.data.hub_names import hub_name
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.labels import numbered, pick_label, require_few
from phoenix_secure.data.parts import part_of_name
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.data.table_files import (
    column_values,
    import_extra,
    part_column,
    read_table_folder,
    rows_of_part,
)
from phoenix_secure.errors import ConfigError, DataError, NoImages

__all__ = ["load_huggingface"]

_IMAGE_COLUMNS = ("image", "img", "images")


def load_huggingface(
    reference: str,
    *,
    image_size: int | None,
    channels: int | None,
    max_images: int | None,
    cache_dir: Path,
    inspection: Inspection,
    test: bool = False,
) -> ImageSet:
    """One part of a data set on the hub or in a local folder: the training part by default.

    ``reference`` is "hf://zalando-datasets/fashion_mnist", or a folder of .parquet or .arrow files,
    whose names tell the parts. The images are in a column named image, img or images; the classes,
    if any, in one that ``labels.pick_label`` knows.

    Guarantee:  no code of a data set is ever run, and no path or URL in a row is followed; pictures
                go through ``decode_picture``. What the hub sends is cached in ``cache_dir``. A
                local folder is read where it lies: nothing in it can send us elsewhere, and no
                second copy of somebody's images is made. With ``each_alone`` a row that cannot be
                read is left out, and classes count only where the set names them.
    Raises:     DataError that names the data set and says what to do; NoImages.
    """
    folder = Path(reference).expanduser()
    part = "test" if test else inspection.rules.part or "train"
    each_alone = inspection.rules.each_alone
    if folder.is_dir():
        table = read_table_folder(folder, part=part, inspection=inspection, is_chosen=test)
    elif (on_hub := hub_name(reference)) is not None:
        table = _read_hub(on_hub, part=part, cache=cache_dir / "huggingface")
    elif folder.is_file():
        raise DataError(f"{reference} is a file: set path to the folder that holds it")
    else:
        raise DataError(
            f"no folder at {reference}: nothing was asked of the hub, whose data sets are written "
            "hf://OWNER/NAME"
        )
    if (column := part_column(table, reference=reference, inspection=inspection)) is not None:
        table = rows_of_part(table, column, part=part, inspection=inspection)
    if len(table) == 0:
        raise NoImages(f"the {part} split of {reference} is empty")
    image_column = _pick(table.column_names, _IMAGE_COLUMNS)
    if image_column is None:
        raise DataError(
            f"{reference} has no column named {' or '.join(_IMAGE_COLUMNS)}, only "
            f"{', '.join(table.column_names)}: rename the one that holds the images"
        )
    rule = inspection.rules.group
    people = _people(table, reference=reference, rule=rule)
    own = [name for name in table.column_names if rule is None or name != rule.name]
    label_column, unused = pick_label(own)
    for name in unused:
        inspection.pass_over(name, why="column(s) that look like labels, not used")
    others = [name for name in own if name != image_column]
    if label_column is None and not unused and others:
        inspection.note(f"no labels: of the columns {', '.join(others)} none is known to hold them")
    for name in _IMAGE_COLUMNS:
        if name in table.column_names and name != image_column:
            inspection.pass_over(name, why="column(s) that may hold images, too, not used")
    labels, class_names = _labels(table, label_column, reference=reference, each_alone=each_alone)
    inspection.require_complete()
    chosen = balanced_indices(labels, num_images=len(table), max_images=max_images)
    names = [f"{reference}, {part} image {i}" for i in chosen]
    column = _undecoded(table, image_column, reference=reference)

    named = np.zeros(len(table), np.int64)
    spellings = None if rule is None else Spellings(rule, each_alone=each_alone)

    def read(index: int, name: str) -> bytes:
        content = (column[index][image_column] or {}).get("bytes")
        if not isinstance(content, bytes):
            raise DataError(f"{name} is missing: the row holds no picture")
        if labels is not None and not 0 <= labels[index] < len(class_names):
            raise DataError(f"{name} has a label without a name")
        if people is not None and rule is not None and spellings is not None:
            whose = spellings.take(person(people[index], name=name, rule=rule), name=name)
            named[index] = rule.number(whose)
        return content

    decoded = decode_files(
        [partial(read, int(i), name) for i, name in zip(chosen, names, strict=True)],
        names=names,
        image_size=image_size,
        channels=channels,
        inspection=inspection,
    )
    for index in range(len(table) - len(chosen)):
        inspection.not_chosen(f"row {len(chosen) + index + 1}", why="beyond max_images")
    facts = facts_of("huggingface")
    image_set = ImageSet(
        name=facts.name,
        images=stack_pictures(decoded.images, names=[names[i] for i in decoded.file_of]),
        labels=None if labels is None else labels[chosen[decoded.file_of]],
        class_names=class_names,
        source=f"{reference}, split {part}",
        licence=str(table.info.license or facts.licence).splitlines()[0],
        groups=None if people is None else named[chosen[decoded.file_of]],
    )
    return inspection.finish(
        image_set,
        labels_from="none" if labels is None else f"column {label_column}",
        scale=inspection.scale,
        part=part,
    )


def _read_hub(reference: str, *, part: str, cache: Path) -> Any:
    """The ``datasets.Dataset`` of one split on the hub."""
    datasets = import_extra("datasets")
    progress_was_on = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        splits = datasets.get_dataset_split_names(reference)
        named = [split for split in splits if part_of_name(split) == part]
        if part in splits:
            named = [part]
        if len(named) != 1:
            raise DataError(f"{reference} has no {part} split, only {', '.join(splits)}")
        return datasets.load_dataset(reference, split=named[0], cache_dir=str(cache))
    except DataError:
        raise
    except Exception as error:
        # The libraries underneath raise their own types for a missing network, an unknown id, a
        # gated set and a damaged file alike.
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"cannot load {reference} ({type(error).__name__}: {reason}): check the name and the "
            "network, or set path to a local folder of its parquet files"
        ) from error
    finally:
        if progress_was_on:
            datasets.enable_progress_bars()


def _labels(
    table: Any, column: str | None, *, reference: str, each_alone: bool
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    names = None if column is None else getattr(table.features[column], "names", None)
    if column is None or (each_alone and names is None):
        # Counted from the labels, the classes would follow from the images.
        return None, ()
    where = f"column {column} of {reference}"
    values = column_values(table, column)
    if each_alone and names is not None:
        # A missing or strange label leaves its own row out, when that is read, and no other.
        require_few(len(names), where=where)
        known = [v if type(v) is int and 0 <= v < len(names) else -1 for v in values]
        return np.array(known, np.int64), tuple(names)
    if any(type(value) is not int for value in values):
        raise DataError(f"{where} must hold one class number (0, 1, 2, ...) per image")
    return numbered(np.array(values), names=names, where=where)


def _people(table: Any, *, reference: str, rule: GroupRule | None) -> list[Any] | None:
    """Whose image each row is, as the column of ``data.group`` says."""
    if rule is None:
        return None
    if rule.kind is not GroupKind.COLUMN:
        raise ConfigError(f"data.group {rule} is not for tables: name a column, column:NAME")
    if rule.name not in table.column_names:
        raise DataError(
            f"{reference} has no column {rule.name}, as data.group {rule} needs, only "
            f"{', '.join(table.column_names)}"
        )
    return column_values(table, rule.name)


def _undecoded(table: Any, column: str, *, reference: str) -> Any:
    """Only the image column, as the bytes of the files; a path in a row is never followed."""
    datasets = import_extra("datasets")
    feature = table.features[column]
    is_struct = isinstance(feature, dict) and "bytes" in feature
    if not (is_struct or isinstance(feature, datasets.Image)):
        raise DataError(
            f"column {column} of {reference} does not hold encoded pictures: "
            "store each as a struct of bytes and path, as the datasets package does"
        )
    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _pick(columns: list[str], known: tuple[str, ...]) -> str | None:
    return next((name for name in known if name in columns), None)
