"""Tables of images in parquet and arrow files: the files of one part, and the rows of one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.listing import list_folder
from phoenix_secure.data.parts import (
    PART_COLUMNS,
    part_of_name,
    part_of_path,
    parts_of_columns,
    require_one_configuration,
)
from phoenix_secure.errors import DataError

__all__ = ["column_values", "import_extra", "part_column", "read_table_folder", "rows_of_part"]

_TABLES = (".parquet", ".arrow")
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow's streams


def import_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            "Hugging Face data sets need an extra package: "
            "pip install 'phoenix-secure[huggingface]'"
        ) from error


def read_table_folder(folder: Path, *, part: str, inspection: Inspection, is_chosen: bool) -> Any:
    """The ``datasets.Dataset`` of one part's files, by the words in file and folder names.

    Read file by file, without the builders of ``datasets``: those follow a README to other files
    and addresses, take ``[`` in a path for a pattern, and keep a copy.
    """
    files = _files_of_part(folder, part=part, inspection=inspection, is_chosen=is_chosen)
    arrow, parquet, datasets = (import_extra(m) for m in ("pyarrow", "pyarrow.parquet", "datasets"))

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


def part_column(table: Any, *, reference: str, inspection: Inspection) -> str | None:
    """The column that says of which part each row is, where that is to be looked at.

    Raises:     DataError where it has several, and nobody said which one is meant.
    """
    if inspection.rules.part == "all":
        return None
    columns = [name for name in table.column_names if name.lower() in PART_COLUMNS]
    if inspection.rules.each_alone or inspection.rules.part is not None:
        return columns[0] if columns else None
    values = {name: column_values(table, name) for name in columns}
    for name, parts in parts_of_columns(values).items():
        raise DataError(
            f"column {name} of {reference} says which rows are {' and '.join(parts)} ones: set "
            f"data.part to {' or '.join(parts)}, or to all"
        )
    return None


def rows_of_part(table: Any, column: str, *, part: str, inspection: Inspection) -> Any:
    """The rows that speak of no other part: each for itself."""
    kept = []
    for number, value in enumerate(column_values(table, column)):
        if part_of_name(str(value)) in (None, part):
            kept.append(number)
        else:
            inspection.not_chosen(f"row {number}", why=f"of another part, as column {column} says")
    return table.select(kept)


def column_values(table: Any, column: str) -> list[Any]:
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
