"""Slices out of NIfTI volumes (.nii, .nii.gz), turned to RAS and shown as DICOM shows them."""

from __future__ import annotations

import gzip
import importlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.stored_image import StoredImage
from phoenix_secure.errors import ConfigError, DataError

__all__ = ["Axis", "Slices", "is_nifti", "nifti_images"]

_GZIP = b"\x1f\x8b"
_MAX_BYTES = 1 << 31  # of one volume
_LABELS = 1002  # NIFTI_INTENT_LABEL
_MAX_GZIP_RATIO = 1032  # of deflate
_HEADER_SIZE = 540  # of NIfTI-2, the longer one


class Axis(StrEnum):
    """Which way slices lie."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slices:
    """Each ``step``-th slice along one axis, from the feet, the back or the left on."""

    axis: Axis
    step: int = 1

    @classmethod
    def of(cls, text: str) -> Slices:
        """axial, or axial:4 for each fourth slice.

        Raises:     ConfigError.
        """
        axis, _, step = text.partition(":")
        if axis not in [each.value for each in Axis] or not (step or "1").isdecimal():
            raise ConfigError(
                f"slices must be axial, coronal or sagittal, or axial:4, got {text[:40]}"
            )
        if int(step or 1) < 1:
            raise ConfigError("slices: the step must be at least 1")
        return cls(axis=Axis(axis), step=int(step or 1))

    def __str__(self) -> str:
        return f"{self.axis}:{self.step}"


def is_nifti(content: bytes) -> bool:
    """Whether ``content`` begins as a NIfTI volume does, compressed or not."""
    try:
        head = _head(content)
    except (OSError, EOFError, ValueError):
        return False
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def nifti_images(content: bytes, *, name: str, slices: Slices | None) -> Iterator[StoredImage]:
    """Each slice that ``slices`` asks for.

    Guarantee:  the axes are the nearest to right, anterior, superior (flips and permutations only:
                no value is interpolated); axial and coronal slices have the patient's left on the
                right side and front or head on top, sagittal ones the front on the left. Values
                are scaled as the header says. What is allocated is bounded by the file and by
                2 GiB, whatever the header claims.
    Raises:     DataError naming the file.
    """
    if slices is None:
        raise DataError(
            f"{name} is a volume: set data.slices, such as {{axis: axial, step: 1}}, to the slices "
            "that are images"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header, volume = _volume(content, name=name)
            if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
                raise DataError(
                    f"{name} does not say how the patient lies in it (qform and sform codes are "
                    "0), so that no slice is known to be axial: set its sform with a NIfTI tool"
                )
            volume, zooms = _as_ras(header, volume)
            slope, inter = header.get_slope_inter()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name} cannot be read as NIfTI ({type(error).__name__}): it is truncated or damaged; "
            "replace or remove it"
        ) from error
    is_scaled = (slope, inter) not in ((None, None), (1.0, 0.0))
    axis = {Axis.SAGITTAL: 0, Axis.CORONAL: 1, Axis.AXIAL: 2}[slices.axis]
    across, down = (each for each in range(3) if each != axis)
    for number in range(0, volume.shape[axis], slices.step):
        stored = np.take(volume, number, axis=axis)
        # Both axes run to the right, front or head, and a picture begins there.
        values = stored[::-1, ::-1].T
        if is_scaled:
            values = values.astype(np.float64) * slope + (inter or 0.0)
        yield StoredImage(
            values=values,
            bits=8 * volume.dtype.itemsize,
            is_bytes=volume.dtype == np.uint8 and not is_scaled,
            spacing_mm=(float(zooms[down]), float(zooms[across])),
        )


def _volume(content: bytes, *, name: str) -> tuple[Any, npt.NDArray[Any]]:
    """The header, and the stored values (X, Y, Z) in the file's own order of axes."""
    nibabel = _import("nibabel")

    head = _head(content)
    kind = nibabel.Nifti2Header if head[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Header
    header = kind.from_fileobj(io.BytesIO(head[: kind.sizeof_hdr]), check=False)
    if bytes(header["magic"].item())[1:2] == b"i":
        raise DataError(f"{name} is a header whose values lie in an .img file: save it as .nii")
    shape = tuple(int(size) for size in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(
            f"{name} has {len(shape)} axes {shape}, expected three of one volume: split it into "
            "files of one volume each"
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{name} holds values of type {dtype}, expected plain numbers: convert it")
    if int(header["intent_code"]) == _LABELS:
        raise DataError(f"{name} holds labels of regions, as its header says, and is no image")
    offset = int(header.get_data_offset())
    end = offset + math.prod(shape) * dtype.itemsize
    is_compressed = content[:2] == _GZIP
    most = len(content) * (_MAX_GZIP_RATIO if is_compressed else 1)
    if end > most:
        raise DataError(
            f"{name} is truncated: its header says {end:,} bytes, and it holds at most {most:,}"
        )
    if end > _MAX_BYTES:
        raise DataError(
            f"{name} is a volume of {end:,} bytes, more than 2 GiB: crop or resample it"
        )
    if is_compressed:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as opened:
            body = opened.read(end)
            opened.read(1)  # at the end of the file its checksum is compared
        if len(body) < end:
            raise DataError(f"{name} is truncated: copy it again")
    else:
        body = content
    if offset < kind.sizeof_hdr:
        raise DataError(f"{name} is damaged: its header says that its values lie in the header")
    count = math.prod(shape)
    return header, np.frombuffer(body, dtype, count, offset).reshape(shape, order="F")


def _as_ras(header: Any, volume: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A view whose axes run to the right, to the front and to the head, and its spacing in mm."""
    turns = _import("nibabel.orientations")

    affine = header.get_best_affine()
    if not np.isfinite(affine).all():
        raise ValueError("affine")
    orientation = turns.io_orientation(affine)
    if np.isnan(orientation).any():
        raise ValueError("orientation")
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    places = np.argsort(orientation[:, 0])
    return turns.apply_orientation(volume, orientation), spacing[places]


def _head(content: bytes) -> bytes:
    if content[:2] != _GZIP:
        return content[:_HEADER_SIZE]
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as opened:
        return opened.read(_HEADER_SIZE)


def _import(module: str) -> Any:
    return importlib.import_module(module)
