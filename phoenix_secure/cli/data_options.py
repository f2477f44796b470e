"""The arguments that the commands of ``data`` have in common."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phoenix_secure.data.inspection import ReadingRules

__all__ = [
    "CacheDir",
    "Channels",
    "DataPath",
    "GroupOption",
    "ImageSize",
    "MaxImages",
    "Name",
    "Part",
    "PartOption",
    "Scheme",
    "SlicesOption",
    "Window",
    "WindowOrPercentiles",
    "reading_rules",
]


class Part(StrEnum):
    """The parts of a data set; see phoenix_secure.data.parts."""

    TRAIN = "train"
    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"


def reading_rules(
    *,
    part: Part | None = None,
    window: tuple[str, str] | None = None,
    group: str | None = None,
    slices: str | None = None,
    strict: bool = False,
    cache: Path | None = None,
) -> ReadingRules:
    """The options as rules; people get numbers under a key of this command alone.

    Raises:     ConfigError for an option that says nothing.
    """
    from phoenix_secure.data.groups import GroupRule
    from phoenix_secure.data.inspection import ReadingRules
    from phoenix_secure.data.nifti import Slices
    from phoenix_secure.data.percentiles import window_of_texts

    return ReadingRules(
        part=part,
        window=None if window is None else window_of_texts(*window),
        group=None if group is None else GroupRule.of(group, key=os.urandom(32)),
        slices=None if slices is None else Slices.of(slices),
        strict=strict,
        cache=cache,
    )


class Scheme(StrEnum):
    """The partition scheme of the images; see phoenix_secure.data.partition_schemes."""

    IID = "iid"
    DIRICHLET = "dirichlet"
    SHARDS = "shards"
    QUANTITY = "quantity"


Name = Annotated[str, typer.Argument(help="One of the names that `data list` shows.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of fetched sets. Default: PHOENIX_DATA_DIR, else ~/.cache/phoenix-secure."
    ),
]
DataPath = Annotated[
    str | None,
    typer.Option(
        "--path",
        help="Your images, for image-folder (a folder), npz (a file) or huggingface (a local "
        "folder of parquet files, or hf://OWNER/NAME).",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Crop to a square and resize to this many pixels a side. Default: keep the size."
    ),
]
Channels = Annotated[
    int | None, typer.Option(help="1 for grey, 3 for RGB. Default: keep what the images have.")
]
PartOption = Annotated[
    Part | None,
    typer.Option(
        "--part",
        help="Read this part, where names below --path speak of parts. all: every one, their names "
        "taken as any others.",
    ),
]
Window = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LO HI",
        help="Stored values that become black and white: for pictures of more than 8 bits, and for "
        "arrays of another scale.",
    ),
]
WindowOrPercentiles = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--window",
        metavar="LO HI",
        help="Stored values that become black and white: for pictures of more than 8 bits, arrays "
        "of another scale, DICOM and NIfTI. p1 p99: these percentiles over the set.",
    ),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Where the data says whose each image is: folder:LEVEL, column:NAME, array:NAME, "
        "dicom:PatientID, or file.",
    ),
]
SlicesOption = Annotated[
    str | None,
    typer.Option(
        "--slices",
        metavar="AXIS[:STEP]",
        help="The slices of NIfTI volumes that are images: axial, coronal or sagittal, axial:4 for "
        "each fourth.",
    ),
]
MaxImages = Annotated[
    int | None,
    typer.Option(help="Use only so many images, the same ones each time, even over the classes."),
]
