"""Images from a Hugging Face data set, or from a local folder of its parquet files."""

from __future__ import annotations

import importlib
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
from phoenix_secure.data.listing import list_folder
from phoenix_secure.data.parts import (
    PART_COLUMNS,
    part_of_name,
    part_of_path,
    parts_of_columns,
    require_one_configuration,
)
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.errors import ConfigError, DataError, NoImages

__all__ = ["load_huggingface"]

_IMAGE_COLUMNS = ("image", "img", "images")
_TABLES = (".parquet", ".arrow")
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow's streams


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
        table = _read_folder(folder, part=part, inspection=inspection, is_chosen=test)
    elif (on_hub := hub_name(reference)) is not None:
        table = _read_hub(on_hub, part=part, cache=cache_dir / "huggingface")
    elif folder.is_file():
        raise DataError(f"{reference} is a file: set path to the folder that holds it")
    else:
        raise DataError(
            f"no folder at {reference}: nothing was asked of the hub, whose data sets are written "
            "hf://OWNER/NAME"
        )
    if (column := _part_column(table, reference=reference, inspection=inspection)) is not None:
        table = _rows_of_part(table, column, part=part, inspection=inspection)
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


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            "Hugging Face data sets need an extra package: "
            "pip install 'phoenix-secure[huggingface]'"
        ) from error


def _read_folder(folder: Path, *, part: str, inspection: Inspection, is_chosen: bool) -> Any:
    """The ``datasets.Dataset`` of one part's files, by the words in file and folder names.

    Read file by file, without the builders of ``datasets``: those follow a README to other files
    and addresses, take ``[`` in a path for a pattern, and keep a copy.
    """
    files = _files_of_part(folder, part=part, inspection=inspection, is_chosen=is_chosen)
    arrow, parquet, datasets = (_import(m) for m in ("pyarrow", "pyarrow.parquet", "datasets"))

    def read(file: Path) -> Any:
        if file.suffix.lower() == ".parquet":
            return parquet.ParquetFile(file).read()
        with arrow.memory_map(str(file)) as source:  # as ``Dataset.save_to_disk`` writes it
            found = arrow.ipc.open_stream(source).read_all()
            source.seek(source.size() - len(_END_OF_STREAM))
            # One that was cut off behind a batch has fewer rows, and reads well.
            if source.read() != _END_OF_STREAM:
                raise ValueError("no end of stream")
            return found

    try:
        tables = [read(file) for file in files]
        features = [datasets.Features.from_arrow_schema(table.schema) for table in tables]
        for file, own in zip(files, features, strict=True):
            if own != features[0]:
                # The first one's names of classes would be taken for the numbers of all.
                raise DataError(
                    f"{files[0]} and {file} do not have the same columns and class names: write "
                    "them alike"
                )
        return datasets.Dataset(arrow.concat_tables(tables))
    except DataError:
        raise
    except Exception as error:
        # Arrow answers damaged files and schemas with many types of its own.
        raise DataError(
            f"cannot read {files[0]} or the files beside it ({type(error).__name__}): "
            "they are damaged, or do not have the same columns"
        ) from error


def _part_column(table: Any, *, reference: str, inspection: Inspection) -> str | None:
    """The column that says of which part each row is, where that is to be looked at.

    Raises:     DataError where it has several, and nobody said which one is meant.
    """
    if inspection.rules.part == "all":
        return None
    columns = [name for name in table.column_names if name.lower() in PART_COLUMNS]
    if inspection.rules.each_alone or inspection.rules.part is not None:
        return columns[0] if columns else None
    values = {name: _values(table, name) for name in columns}
    for name, parts in parts_of_columns(values).items():
        raise DataError(
            f"column {name} of {reference} says which rows are {' and '.join(parts)} ones: set "
            f"data.part to {' or '.join(parts)}, or to all"
        )
    return None


def _rows_of_part(table: Any, column: str, *, part: str, inspection: Inspection) -> Any:
    """The rows that speak of no other part: each for itself."""
    kept = []
    for number, value in enumerate(_values(table, column)):
        if part_of_name(str(value)) in (None, part):
            kept.append(number)
        else:
            inspection.not_chosen(f"row {number}", why=f"of another part, as column {column} says")
    return table.select(kept)


def _values(table: Any, column: str) -> list[Any]:
    values: list[Any] = table.with_format("arrow")[:][column].to_pylist()
    return values


def _files_of_part(
    folder: Path, *, part: str, inspection: Inspection, is_chosen: bool
) -> list[Path]:
    """The tables of ``part``, all of one configuration; everything else is told."""
    parts: dict[Path, str | None] = {}
    for file in list_folder(folder, inspection).files:
        relative = file.relative_to(folder)
        if file.suffix.lower() in _TABLES:
            parts[file] = (
                None if part == "all" else part_of_path((*relative.parts[:-1], relative.stem))
            )
        else:
            inspection.pass_over(str(relative), why=f"no table ({file.suffix or 'no suffix'})")
    if not parts:
        raise DataError(f"{folder} holds no .parquet file: for pictures use image-folder")
    if part == "all":
        parts = dict.fromkeys(parts, "all")
    elif set(parts.values()) == {None}:
        parts = dict.fromkeys(parts, "train")
    found = sorted({name for name in parts.values() if name})
    unmarked = [file for file, name in parts.items() if name is None]
    if unmarked and not is_chosen and inspection.rules.part is None:
        raise DataError(
            f"{folder} holds files of {' and '.join(found)}, and {unmarked[0].relative_to(folder)} "
            f"beside them: set data.part to {' or '.join(found)}, or to all"
        )
    chosen = [file for file, name in parts.items() if name == part]
    if not chosen:
        raise DataError(f"{folder} has no {part} split, only {', '.join(found)}")
    for file, name in parts.items():
        if name is None:
            inspection.pass_over(str(file.relative_to(folder)), why=f"in no part, {part} chosen")
        elif name != part:
            inspection.not_chosen(str(file.relative_to(folder)), why=f"of the {name} part")
    if part != "all":
        require_one_configuration(chosen, root=folder)
    if len({file.suffix.lower() for file in chosen}) > 1:
        raise DataError(
            f"{folder} holds parquet and arrow files of one part: keep one of the two, since they "
            "may hold the same images"
        )
    return chosen


def _read_hub(reference: str, *, part: str, cache: Path) -> Any:
    """The ``datasets.Dataset`` of one split on the hub."""
    datasets = _import("datasets")
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
    values = _values(table, column)
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
    return _values(table, rule.name)


def _undecoded(table: Any, column: str, *, reference: str) -> Any:
    """Only the image column, as the bytes of the files; a path in a row is never followed."""
    datasets = _import("datasets")
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
