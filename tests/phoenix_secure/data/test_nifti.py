"""NIfTI: nibabel's own volumes and volumes that it writes, against nibabel's canonical arrays."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.testing import data_path

from phoenix_secure.data.decode import decode_file
from phoenix_secure.data.groups import GroupRule
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.nifti import Slices
from phoenix_secure.data.percentiles import Percentiles
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError, DataError

KEY = bytes(32)
FILE = GroupRule.of("file", key=KEY)
OWN = Path(data_path)
WINDOW = (0.0, 1000.0)


def read(
    content: bytes,
    *,
    slices: str | None = "axial",
    window: tuple[float, float] | None = WINDOW,
    name: str = "a.nii",
) -> list[np.ndarray]:
    chosen = None if slices is None else Slices.of(slices)
    inspection = Inspection(name, ReadingRules(window=window, group=FILE, slices=chosen))
    return decode_file(content, image_size=None, channels=None, name=name, inspection=inspection)


def volume(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nib.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()


def slow(content: bytes, axis: str, step: int) -> list[np.ndarray]:
    """Through nibabel's own canonical image, pixel by pixel."""
    image = nib.as_closest_canonical(nib.Nifti1Image.from_bytes(content))
    values = np.asarray(image.dataobj, np.float64)
    number = {"sagittal": 0, "coronal": 1, "axial": 2}[axis]
    found = []
    for place in range(0, values.shape[number], step):
        cut = values.take(place, number)
        wide, high = cut.shape
        shown = np.empty((high, wide))
        for row in range(high):
            for column in range(wide):
                shown[row, column] = cut[wide - 1 - column, high - 1 - row]
        low, top = WINDOW
        found.append(np.rint(np.clip((shown - low) / (top - low), 0, 1) * 255))
    return found


@given(st.integers(0, 2**32), st.sampled_from(["axial", "coronal", "sagittal"]), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_any_orientation_becomes_the_same_slices(seed: int, axis: str, step: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, 6, 3)
    values = rng.integers(0, 1000, shape).astype(rng.choice(["i2", ">i2", "f4", "u2"]))
    turned = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3) * rng.uniform(0.5, 3, 3)
    affine = np.eye(4)
    affine[:3, :3] = turned + rng.normal(0, 0.02, (3, 3))
    content = volume(values, affine)
    found = read(content, slices=f"{axis}:{step}")
    wanted = slow(content, axis, step)
    assert len(found) == len(wanted)
    assert all(np.array_equal(a[0], b) for a, b in zip(found, wanted, strict=True))


def test_an_axial_slice_lies_as_dicom_shows_it() -> None:
    """Anterior on top, the patient's right on the left side of the picture."""
    values = np.zeros((3, 4, 2), np.int16)
    values[2, 3, 0] = 1000  # the right, front corner, below
    assert read(volume(values))[0][0][0, 0] == 255
    assert read(volume(values), slices="coronal")[3][0][1, 0] == 255  # feet are below
    assert read(volume(values), slices="sagittal")[2][0][1, 0] == 255  # front on the left


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "example_nifti2.nii.gz"])
def test_nibabels_own_volumes_are_read(name: str) -> None:
    content = (OWN / name).read_bytes()
    image = nib.load(OWN / name)
    if len(image.shape) > 3:
        with pytest.raises(DataError, match="axes"):
            read(content, name=name)
        return
    canonical = np.asarray(nib.as_closest_canonical(image).dataobj, np.float64)
    found = read(content, name=name, window=(canonical.min(), canonical.max()))
    assert len(found) == canonical.shape[2]
    span = canonical.max() - canonical.min()
    wanted = np.rint((canonical[::-1, ::-1, 1].T - canonical.min()) / span * 255)
    assert np.array_equal(found[1][0], wanted)


@pytest.mark.parametrize("name", ["example4d.nii.gz", "functional.nii"])
def test_series_of_volumes_are_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} has 4 axes .*one volume each"):
        read((OWN / name).read_bytes(), name=name)


def test_scale_and_compression_are_the_headers() -> None:
    values = np.random.default_rng(0).normal(500, 200, (4, 5, 6))
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(np.int16)
    content = image.to_bytes()
    assert nib.Nifti1Image.from_bytes(content).dataobj.slope != 1
    plain = read(content)
    assert all(
        np.array_equal(a[0], b) for a, b in zip(plain, slow(content, "axial", 1), strict=True)
    )
    packed = read(gzip.compress(content), name="a")
    assert all(np.array_equal(a, b) for a, b in zip(plain, packed, strict=True))


def hostile(**fields: object) -> bytes:
    header = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).header.copy()
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4 + 128)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (hostile(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "truncated"),
        (gzip.compress(hostile(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])), "truncated"),
        (gzip.compress(hostile(dim=[3, 60, 60, 4, 1, 1, 1, 1])), "truncated|cannot be read"),
        (hostile(dim=[3, -4, 4, 4, 1, 1, 1, 1]), "axes|cannot be read"),
        (hostile(dim=[7, 4, 4, 4, 2, 1, 1, 1]), "4 axes"),
        (hostile(datatype=128, bitpix=24), "plain numbers"),
        (hostile(datatype=32, bitpix=64), "plain numbers"),
        (hostile(datatype=999), "cannot be read"),
        (hostile(vox_offset=1e9), "truncated"),
        (hostile(magic=b"ni1"), r"an \.img file"),
        (hostile()[:200], "cannot be read|truncated"),
        (gzip.compress(hostile())[:-30], "truncated|cannot be read"),
        (b"", "cannot be read|empty"),
        (volume(np.full((2, 2, 2), np.nan)), "NaN"),
    ],
    # The bytes would be part of the name, and gzip writes the time into them.
    ids=[
        "terabytes",
        "terabytes, packed",
        "short, packed",
        "negative axis",
        "four axes",
        "colour",
        "complex",
        "unknown type",
        "data far away",
        "data elsewhere",
        "half a header",
        "cut short, packed",
        "empty",
        "NaN",
    ],
)
def test_hostile_and_damaged_volumes_are_refused_and_nothing_is_allocated(
    content: bytes, told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read(content)
    assert "a.nii" in str(caught.value)


@pytest.mark.parametrize("intercept", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_refused(intercept: float) -> None:
    with pytest.raises(DataError, match=r"a\.nii cannot be read as NIfTI"):
        read(placed(scl_slope=2, scl_inter=intercept))


def test_a_header_is_not_read_as_values() -> None:
    with pytest.raises(DataError, match="values lie in the header"):
        read(placed(vox_offset=0))


def test_a_map_of_labels_is_no_image() -> None:
    with pytest.raises(DataError, match="labels of regions"):
        read(placed(intent_code=1002))


def placed(**fields: object) -> bytes:
    """A volume that is read, but for these fields of its header."""
    content = volume(np.ones((4, 4, 4), np.int16))
    assert len(read(content)) == 4
    header = nib.Nifti1Image.from_bytes(content).header
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock + content[348:])


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_bytes_changed_anywhere_are_read_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(volume(rng.integers(0, 99, (3, 3, 3)).astype(np.int16)))
    for place in rng.integers(0, 352, 3):
        content[place] = rng.integers(0, 256)
    whole = bytes(content[: rng.integers(1, len(content) + 1)])
    with contextlib.suppress(DataError):
        read(gzip.compress(whole) if seed % 2 else whole)


def test_what_is_missing_is_named() -> None:
    content = volume(np.zeros((2, 2, 2), np.int16))
    with pytest.raises(DataError, match=r"set data\.slices"):
        read(content, slices=None)
    with pytest.raises(DataError, match=r"set data\.window"):
        read(content, window=None)
    for text in ("", "oblique", "axial:0", "axial:x"):
        with pytest.raises(ConfigError, match="slices"):
            Slices.of(text)


def test_a_folder_of_volumes_has_a_person_each_and_one_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        values = rng.integers(0, 2000, (8, 8, 5)).astype(np.int16)
        image = nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0]))
        nib.save(image, tmp_path / f"v{number}.nii{'.gz' * (number % 2)}")
    rules = ReadingRules(
        group=FILE, slices=Slices.of("axial:2"), window=Percentiles(1, 99), strict=True
    )
    found = load_images("image-folder", path=str(tmp_path), cache_dir=tmp_path, rules=rules)
    assert (found.num_images, found.num_groups, found.image_size) == (12, 4, 8)
    values = np.concatenate(
        [np.asarray(nib.load(file).dataobj)[:, :, ::2] for file in sorted(tmp_path.iterdir())], 2
    )
    inventory = found.inventory
    assert inventory is not None
    assert inventory.window == tuple(np.percentile(values, [1, 99]))
    assert inventory.spacing_mm == (1.0, 1.0)
    assert "([p1, p99])" in inventory.scale


def test_a_volume_that_states_no_orientation_is_refused() -> None:
    """nibabel takes the axes for left, anterior, superior then, without a word."""
    content = bytearray(volume(np.zeros((4, 4, 3), np.int16)))
    assert len(read(bytes(content))) == 3
    content[252:256] = bytes(4)  # the two codes
    with pytest.raises(DataError, match=r"does not say how the patient lies.*set its sform"):
        read(bytes(content))
    content[252] = 1
    assert len(read(bytes(content))) == 3
