"""Write images with their labels in layouts that this package and others read again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.deep_export import SCALE_FILE, DeepScale
from phoenix_secure.data.labels import class_name
from phoenix_secure.data.listing import is_system_name
from phoenix_secure.data.parts import part_of_name
from phoenix_secure.errors import ConfigError
from phoenix_secure.files import replace_file, replace_folder
from phoenix_secure.pictures import Encode

__all__ = ["DeepImages", "ExportLayout", "export_images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepImages:
    """Grey images (N, 1, H, W) uint16, and what their pixels stand for."""

    pixels: npt.NDArray[np.uint16] = field(repr=False)
    scale: DeepScale


class ExportLayout(StrEnum):
    """class-folders: CLASS/000000.png. imagefolder: PNGs and metadata.jsonl, as the datasets
    package reads them. npz: the arrays images (N, C, H, H), labels and class_names."""

    CLASS_FOLDERS = "class-folders"
    IMAGEFOLDER = "imagefolder"
    NPZ = "npz"


def export_images(
    images: npt.NDArray[np.uint8],
    path: Path,
    *,
    layout: ExportLayout,
    labels: npt.NDArray[np.int64] | None,
    class_names: tuple[str, ...],
    encode: Encode,
    deep: DeepImages | None = None,
) -> None:
    """Write images (N, C, H, W) uint8 and labels (N,) to ``path``, a new folder or .npz file.

    encode      makes a PNG file of a picture, with its marks
    deep        the same images in 16 bits, which PNGs then have, and the scale that goes beside
                them as scale.json

    Guarantee:  ``load_images`` of the result gives the same pixels, each with a class of the same
                name (16-bit ones with the window that scale.json names); ``path`` holds everything
                or, after an error, nothing.
    Raises:     ConfigError for a path that exists, class folders without labels, and names of
                classes that cannot be folders; StorageError.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} is there already: name a new one with --export")
    if layout is ExportLayout.NPZ:
        _write_npz(images, path, labels=labels, class_names=class_names)
        return
    if layout is ExportLayout.CLASS_FOLDERS:
        if labels is None:
            raise ConfigError(
                "class-folders needs labels, and these images have none: use imagefolder"
            )
        _require_folder_names(class_names)
        names = [f"{class_names[label]}/{number:06d}.png" for number, label in enumerate(labels)]
        folders = class_names
        metadata = None
    else:
        names = [f"{number:06d}.png" for number in range(len(images))]
        folders = ()
        metadata = _metadata(names, labels=labels, class_names=class_names)
    with replace_folder(path) as new:
        for folder in folders:
            (new / folder).mkdir()
        if deep is not None:
            text = json.dumps(deep.scale.to_dict(), indent=2) + "\n"
            (new / SCALE_FILE).write_text(text, encoding="utf-8")
        written = images if deep is None else deep.pixels
        for name, image in zip(names, written, strict=True):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            (new / name).write_bytes(encode(Image.fromarray(pixels)))
        if metadata is not None:
            (new / "metadata.jsonl").write_text(metadata, encoding="utf-8")


def _write_npz(
    images: npt.NDArray[np.uint8],
    path: Path,
    *,
    labels: npt.NDArray[np.int64] | None,
    class_names: tuple[str, ...],
) -> None:
    if path.suffix != ".npz":
        raise ConfigError(f"{path} must end in .npz for the layout npz")
    arrays: dict[str, npt.NDArray[np.generic]] = {"images": images}
    if labels is not None:
        arrays |= {"labels": labels, "class_names": np.array(class_names, np.str_)}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    replace_file(path, write)


def _require_folder_names(names: tuple[str, ...]) -> None:
    """Refuse names that are no folder's, or that would be read as something else than a class.

    A model's names come from its file: none may lead out of the folder.
    """
    for name in names:
        is_plain = name and name == class_name(name) and not set(name) & set("/\\\0")
        if not is_plain or is_system_name(name) or part_of_name(name):
            raise ConfigError(
                f"the class {name[:60]!r} cannot be a folder's name: "
                "use --layout imagefolder or npz"
            )


def _metadata(
    names: list[str], *, labels: npt.NDArray[np.int64] | None, class_names: tuple[str, ...]
) -> str | None:
    if labels is None:
        return None
    rows = [
        {"file_name": name, "label": class_names[label]}
        for name, label in zip(names, labels.tolist(), strict=True)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
