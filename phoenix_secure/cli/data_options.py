"""The arguments that the commands of ``data`` have in common."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "CacheDir",
    "Channels",
    "DataPath",
    "ImageSize",
    "MaxImages",
    "Name",
    "Part",
    "PartOption",
    "Scheme",
    "Window",
]


class Part(StrEnum):
    """The parts of a data set; see phoenix_secure.data.parts."""

    TRAIN = "train"
    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"


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
MaxImages = Annotated[
    int | None,
    typer.Option(help="Use only so many images, the same ones each time, even over the classes."),
]
