"""Images that a caller holds in memory, or names: the ``data`` section of the settings for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from phoenix_secure.config.images import OWN_DATA
from phoenix_secure.data.catalogue import DATASETS
from phoenix_secure.data.decode import decode_picture
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.files import replace_file

__all__ = ["data_settings"]


def data_settings(data: object, *, keep_at: Path) -> dict[str, Any]:
    """Settings (``name``, ``path``) under which a run finds ``data``.

    data      a path (a folder of pictures, an .npz), the name of a data set, an array
              (N, H, W), (N, H, W, C) or (N, C, H, W), a pair (images, labels), a dictionary with
              the keys ``images``, ``labels`` and ``class_names``, a Hugging Face ``Dataset``, or a
              torch ``Dataset`` of images or (image, label) pairs
    keep_at   where images from memory are written (.npz, readable by their owner alone), because
              resume, audits and reports read them again
    Raises:   ConfigError for what is none of these; DataError for images that cannot be stacked.
    """
    if isinstance(data, str) and data in DATASETS and data not in OWN_DATA:
        return {"name": data, "path": None}
    if isinstance(data, str | Path):
        path = Path(data).expanduser().resolve()
        if not path.exists():
            raise ConfigError(f"data: no file, folder or data set {data} (sets: {list(DATASETS)})")
        return {
            "name": "npz" if path.suffix.lower() == ".npz" else "image-folder",
            "path": str(path),
        }
    arrays = _arrays(data)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    replace_file(keep_at, write, mode=0o600)
    return {"name": "npz", "path": str(keep_at.resolve())}


def _arrays(data: object) -> dict[str, np.ndarray]:
    """The entries of an .npz; what they may hold is for its reader to check."""
    if isinstance(data, dict):
        unknown = sorted(set(data) - {"images", "labels", "class_names"})
        if unknown or "images" not in data:
            raise ConfigError(
                f"data: expected the keys images, labels, class_names, got {sorted(data)}"
            )
        return {name: np.asarray(value) for name, value in data.items() if value is not None}
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ConfigError(f"data: expected (images, labels), got a tuple of {len(data)}")
        return {"images": np.asarray(data[0]), "labels": np.asarray(data[1])}
    if isinstance(data, np.ndarray) or hasattr(data, "__array__"):
        return {"images": np.asarray(data)}
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _hugging_face(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _pairs(data[number] for number in range(len(data)))
    raise ConfigError(
        f"data: a {type(data).__name__} is none of path, data set name, array, (images, labels), "
        "datasets.Dataset, torch Dataset"
    )


def _hugging_face(data: Any) -> dict[str, np.ndarray]:
    """The one image column and, where there is one, the class column of a ``datasets.Dataset``."""
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if len(images) != 1 or len(labels) > 1:
        raise ConfigError(
            f"data: expected one Image column and at most one ClassLabel, got {kinds}: select the "
            "columns first"
        )
    found = {"images": _stack(_pictures(data, images[0]))}
    if labels:
        found["labels"] = np.asarray(data[labels[0]], np.int64)
        found["class_names"] = np.asarray(data.features[labels[0]].names)
    return found


def _pictures(data: Any, column: str) -> Iterable[np.ndarray]:
    """The pictures of a column, (H, W) or (H, W, C), decoded here: the package would keep the high
    byte of deep ones without a word."""
    feature = type(data.features[column])
    for number, row in enumerate(data.cast_column(column, feature(decode=False))):
        content = row[column].get("bytes") or Path(row[column]["path"]).read_bytes()
        name = f"data: image {number}"
        pixels = decode_picture(content, image_size=None, channels=None, name=name)
        yield pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _pairs(items: Iterable[Any]) -> dict[str, np.ndarray]:
    images, labels = [], []
    for item in items:
        image, label = item if isinstance(item, tuple) else (item, None)
        images.append(np.asarray(image))
        labels.append(label)
    has_label = [label is not None for label in labels]
    if any(has_label) and not all(has_label):
        raise DataError("data: some items have a label and some have none")
    found = {"images": _stack(images)}
    if any(has_label):
        found["labels"] = np.asarray([int(label) for label in labels], np.int64)
    return found


def _stack(images: Iterable[np.ndarray]) -> np.ndarray:
    listed = list(images)
    forms = {(image.shape, image.dtype) for image in listed}
    if len(forms) != 1:
        shown = ", ".join(sorted(f"{shape} {dtype}" for shape, dtype in forms)[:3])
        raise DataError(
            f"data: expected images of one shape and type, got {shown or 'none'}: bring them to one"
        )
    return np.stack(listed)
