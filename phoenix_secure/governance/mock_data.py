"""Mock data next to a private set: a PySyft data set whose public part shows only the form.

PySyft copies what it is given as the private part into the SyftBox, which may be a synchronised
folder. So its private part here is a note that the images stay at the site, and no image.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from syft_datasets.dataset_manager import SyftDatasetManager

from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors
from phoenix_secure.governance.names import is_name

__all__ = ["MockKind", "mock_images", "publish_mock"]

NUM_MOCK_IMAGES = 256
_PUBLIC_SET = "mnist-5k"
_FILE = "images.npz"
_README = """\
# {name}: mock data

{count} images of {size} x {size} pixels, {channels} channel(s), {what}.
They have the form of this site's images and nothing of their content: the software that made
them reads no private file. How many images the site holds is not told.

Develop a plan with

    phoenix-secure run PLAN.yaml data.name=npz data.path={file}
"""
_NOTE = {"images": "at the site, outside every SyftBox; its worker alone reads them"}


class MockKind(Enum):
    """The substitute for the images."""

    NOISE = "noise"
    PUBLIC = "public"


def mock_images(
    kind: MockKind, *, image_size: int, channels: int, rng: np.random.Generator, cache_dir: Path
) -> npt.NDArray[np.uint8]:
    """Images of a stated form, made from nothing private.

    Shape:      (256, channels, image_size, image_size) uint8.
    Guarantee:  noise: every pixel independent and uniform. public: digits of MNIST, which comes
                with the package, brought to the form. The only inputs are these arguments.
    Raises:     ConfigError for a form that no plan can have.
    """
    if channels not in (1, 3) or not 4 <= image_size <= 1024:
        raise ConfigError(
            f"mock images need 1 or 3 channels and 4 to 1024 pixels, got {channels} and "
            f"{image_size}: set --channels and --image-size"
        )
    shape = (NUM_MOCK_IMAGES, channels, image_size, image_size)
    if kind is MockKind.NOISE:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    public = load_images(
        _PUBLIC_SET,
        image_size=image_size,
        channels=channels,
        cache_dir=cache_dir,
        max_images=NUM_MOCK_IMAGES,
    )
    return np.ascontiguousarray(public.images, dtype=np.uint8)


def publish_mock(
    root: Path,
    *,
    owner: str,
    coordinator: str,
    name: str,
    kind: MockKind,
    images: npt.NDArray[np.uint8],
) -> Path:
    """Publish ``images`` as the mock part of the owner's data set ``name``; returns their file.

    Raises:     ConfigError when the data set exists; StorageError.
    """
    if not is_name(name):
        raise ConfigError(
            f"a data set's name is letters, digits, '.', '_', '-', and not v1, v2, ...: "
            f"got {name!r}"
        )
    count, channels, size, _ = images.shape
    what = {
        MockKind.NOISE: "pure noise",
        MockKind.PUBLIC: "handwritten digits of the public MNIST set",
    }[kind]
    readme = _README.format(
        name=name, count=count, size=size, channels=channels, what=what, file=_FILE
    )
    with storage_errors(root), tempfile.TemporaryDirectory() as scratch:
        root.mkdir(parents=True, exist_ok=True)
        mock, private = Path(scratch) / "mock", Path(scratch) / "private"
        mock.mkdir()
        private.mkdir()
        np.savez_compressed(mock / _FILE, images=images)
        (private / "where.json").write_text(json.dumps(_NOTE) + "\n")
        (Path(scratch) / "README.md").write_text(readme)
        manager = SyftDatasetManager(root.resolve(), owner)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                made = manager.create(
                    name,
                    mock_path=mock,
                    private_path=private,
                    readme_path=Path(scratch) / "README.md",
                    summary=f"mock: {count} images, {size} pixels, {channels} channels, {what}",
                    users=[coordinator],
                )
        except FileExistsError as error:
            raise ConfigError(
                f"the data set {name} is published already: choose another --name"
            ) from error
    return Path(made.mock_dir) / _FILE
