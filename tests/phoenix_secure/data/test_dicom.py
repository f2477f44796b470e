"""DICOM: pydicom's own files and files that it writes; values against the standard's formulas."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pydicom.pixels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from phoenix_secure.config_file import load_config
from phoenix_secure.data import dicom
from phoenix_secure.data.decode import decode_file
from phoenix_secure.data.dicom import NoPixels
from phoenix_secure.data.groups import GroupRule, group_number
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.partition import partition_images, save_parts
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError
from phoenix_secure.rng import SeedTree

KEY = bytes(range(32))
PLANTED = ("Jansson^Anna", "19470512-2389", "St. Erik Hospital")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def dataset(values: np.ndarray, *, patient: str = "P1", **elements: object) -> Dataset:
    """A grey image of ``values`` (H, W) or (F, H, W), 16 bits, as pydicom encodes it."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    made.PatientID, made.PatientName, made.InstitutionName = patient, PLANTED[0], PLANTED[2]
    made.Rows, made.Columns = values.shape[-2:]
    if values.ndim == 3:
        made.NumberOfFrames = len(values)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    size = 8 * values.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = size, size, size - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OW" if size > 8 else "OB"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def written(made: Dataset) -> bytes:
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(
    made: Dataset | bytes,
    *,
    window: tuple[float, float] | None = None,
    group: str | None = "file",
    name: str = "a.dcm",
) -> list[np.ndarray]:
    rule = None if group is None else GroupRule.of(group, key=KEY)
    inspection = Inspection(name, ReadingRules(window=window, group=rule))
    content = made if isinstance(made, bytes) else written(made)
    return decode_file(content, image_size=None, channels=None, name=name, inspection=inspection)


RAMP = np.arange(0, 4096, 64, dtype=np.int16).reshape(8, 8)


def test_a_window_is_in_the_unit_that_the_file_rescales_to() -> None:
    made = dataset(RAMP, RescaleSlope="2", RescaleIntercept="-1024")
    (found,) = read(made, window=(-1000, 3000))
    wanted = np.rint(np.clip((RAMP * 2.0 - 1024 + 1000) / 4000, 0, 1) * 255)
    assert np.array_equal(found[0], wanted)
    inverted = dataset(
        RAMP, RescaleSlope="2", RescaleIntercept="-1024", PhotometricInterpretation="MONOCHROME1"
    )
    assert np.array_equal(read(inverted, window=(-1000, 3000))[0][0], 255 - wanted)


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "other bits than the lowest"),
        ({"RescaleSlope": "0", "RescaleIntercept": "7"}, "RescaleSlope 0"),
        ({"RescaleSlope": "2"}, "one of RescaleSlope and RescaleIntercept"),
        ({"RescaleIntercept": "-1024"}, "one of RescaleSlope and RescaleIntercept"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "contradict each other"),
        ({"Rows": 4}, "more frames than it says"),
        ({"PresentationLUTShape": "INVERSE"}, "contradicts itself"),
        (
            {"PresentationLUTShape": "IDENTITY", "PhotometricInterpretation": "MONOCHROME1"},
            "contradicts itself",
        ),
    ],
)
def test_values_that_pydicom_would_read_otherwise_are_refused(
    elements: dict[str, object], told: str
) -> None:
    values = np.stack([RAMP, RAMP, RAMP]) if "SamplesPerPixel" in elements else RAMP
    made = dataset(values, **elements)
    if "SamplesPerPixel" in elements:
        del made.NumberOfFrames
    with pytest.raises(DataError, match=f"a.dcm .*{told}"):
        read(made, window=(0, 4095))


@pytest.mark.parametrize("descriptor", [8, 16])
@pytest.mark.parametrize("words", ["u1", "<u2"])
def test_a_palette_of_8_bits_is_as_bright_in_words_of_16(descriptor: int, words: str) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    made = dataset(values, PhotometricInterpretation="PALETTE COLOR")
    entries = np.arange(256) // 2 + 100
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        setattr(made, f"{name}Descriptor", [256, 0, descriptor])
        setattr(made, f"{name}Data", entries.astype(words).tobytes())
    (found,) = read(made)
    assert np.array_equal(found, np.stack([entries[values]] * 3))


@given(
    st.floats(-500, 4500),
    st.floats(1.5, 5000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
@settings(max_examples=40, deadline=None)
def test_the_files_own_window_is_what_pydicom_makes_of_it(
    centre: float, width: float, function: str
) -> None:
    centre, width = round(centre, 3), round(width, 3)
    made = dataset(
        RAMP.astype(np.uint16), WindowCenter=[centre, 1], WindowWidth=[width, 2],
        VOILUTFunction=function,
    )  # fmt: skip
    wanted = pydicom.pixels.apply_windowing(RAMP.astype(np.uint16), made) * (255 / 65535)
    assert np.abs(read(made)[0][0] - wanted).max() <= 0.5 + 1e-6


def test_a_table_in_place_of_a_window_is_looked_up() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 12], np.arange(4095, -1, -1, "u2").tobytes()
    made = dataset(RAMP.astype(np.uint16), VOILUTSequence=Sequence([table]))
    assert np.array_equal(read(made)[0][0], np.rint((4095 - RAMP) * (255 / 4095)))


def test_frames_of_an_enhanced_object_have_their_own_scale_and_window() -> None:
    frames = np.stack([RAMP, RAMP])
    groups = []
    for slope in (1, 3):
        transformation, window, measures, group = Dataset(), Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
        window.WindowCenter, window.WindowWidth = 2048.5, 4097
        measures.PixelSpacing = [0.5, 0.25 * slope]
        group.PixelValueTransformationSequence = Sequence([transformation])
        group.FrameVOILUTSequence = Sequence([window])
        group.PixelMeasuresSequence = Sequence([measures])
        groups.append(group)
    made = dataset(frames, PerFrameFunctionalGroupsSequence=Sequence(groups))
    one, three = read(made)
    assert np.array_equal(one[0], np.rint(RAMP * (255 / 4096)))
    assert np.array_equal(three[0], np.rint(np.clip(RAMP * 3.0 / 4096, 0, 1) * 255))
    with pytest.raises(DataError, match=r"2 images of one person: set data\.group"):
        read(made, group=None)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle_2frame.dcm",
        "ExplVR_BigEnd.dcm",
        "image_dfl.dcm",
        "examples_palette.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_colour_and_palettes_of_pydicoms_own_files_are_rgb(name: str) -> None:
    file = FILES / name
    made = pydicom.dcmread(file)
    wanted = pydicom.pixels.pixel_array(made)
    if made.PhotometricInterpretation == "PALETTE COLOR":
        wanted = np.rint(pydicom.pixels.apply_color_lut(wanted, made) / 257.0)
    frames = wanted[None] if wanted.ndim == 3 or made.get("NumberOfFrames", 1) == 1 else wanted
    found = read(file.read_bytes(), name=name)
    assert len(found) == len(frames)
    for one, other in zip(found, frames, strict=True):
        grey = other if other.ndim == 3 else other[..., None]
        assert np.array_equal(one, grey.transpose(2, 0, 1))


def test_one_picture_in_six_encodings_is_one_picture() -> None:
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm")
    others = ("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm")
    first, *rest = (read((FILES / name).read_bytes())[0] for name in (*names, *others))
    assert all(np.array_equal(first, other) for other in rest)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SC_rgb_jpeg_gdcm.dcm", "Process 14.*pip install pylibjpeg-libjpeg .GPL"),
        ("JPGExtended.dcm", "pip install pylibjpeg-libjpeg"),
        ("GDCMJ2K_TextGBR.dcm", "JP2 files in place of codestreams"),
        ("MR_truncated.dcm", "truncated"),
        ("CT_small.dcm", r"set data\.window"),
        ("badVR.dcm", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_fix(name: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read((FILES / name).read_bytes(), name=name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtstruct.dcm", "test-SR.dcm", "waveform_ecg.dcm"])
def test_objects_without_pixels_are_no_images(name: str) -> None:
    with pytest.raises(NoPixels):
        read((FILES / name).read_bytes(), name=name)


def test_every_file_of_pydicoms_is_read_or_refused() -> None:
    """No other exception, no warning and no word in the log, whatever is in a file."""
    refused = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in sorted(FILES.glob("*.dcm")):
            for window in (None, (0, 1000)):
                try:
                    found = read(file.read_bytes(), window=window, name=file.name)
                except DataError as error:
                    refused.append((file.name in str(error), error.__cause__))
                else:
                    assert all(image.dtype == np.uint8 for image in found)
    assert set(refused) == {(True, None)}


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_bytes_changed_anywhere_are_read_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(written(dataset(RAMP, WindowCenter=100, WindowWidth=50)))
    for place in rng.integers(0, len(content), 4):
        content[place] = rng.integers(0, 256)
    with contextlib.suppress(DataError):
        read(bytes(content[: rng.integers(100, len(content) + 1)]))


COMPRESSED = (
    *("JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm"),
    *("J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"),
)


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_files_of_pydicoms_are_read_and_damaged_ones_refused(name: str) -> None:
    content = (FILES / name).read_bytes()
    assert read(content, window=None if "rgb" in name or "08" in name else (0, 4095))
    start = max(300, content.rfind(b"\xff\xd8"), content.rfind(b"\xff\x4f\xff\x51"))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        for place in rng.integers(start, len(content), 5):
            damaged[place] = rng.integers(0, 256)
        with contextlib.suppress(DataError):
            read(bytes(damaged[: rng.integers(start, 2 * len(content))]), window=(0, 255))


def test_no_frame_of_jpeg_2000_keeps_a_decoder_busy() -> None:
    """pydicom alone never returns from boxes without a length."""
    made = pydicom.dcmread(FILES / "JPEG2000.dcm")
    (frame,) = pydicom.encaps.generate_frames(made.PixelData, number_of_frames=1)
    large = frame[:8] + b"\0\0\x30\0\0\0\x30\0" + frame[16:]
    for hostile, told in (
        (b"\0\0\0\x0cjP  " + bytes(64), "JP2 files in place of codestreams"),
        (large, "not of the size that it states"),
        (frame[:20], "cannot be read as DICOM"),
    ):
        made.PixelData = pydicom.encaps.encapsulate([hostile])
        with pytest.raises(DataError, match=told):
            read(made, window=(0, 1))


def test_claims_of_a_hostile_file_are_not_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="65535 x 65535"):
        read(dataset(RAMP, Rows=65535, Columns=65535, WindowCenter=1, WindowWidth=5))
    with pytest.raises(DataError, match=r"a\.dcm"):
        read(dataset(RAMP, NumberOfFrames=2**31 - 1, WindowCenter=1, WindowWidth=5))
    content = (FILES / "image_dfl.dcm").read_bytes()
    end = 144 + int.from_bytes(content[140:144], "little")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeeze.compress(bytes(1 << 24)) + squeeze.flush()
    monkeypatch.setattr(dicom, "_MAX_INFLATED", 1 << 23)
    with pytest.raises(DataError, match="inflates to more than 8,388,608 bytes"):
        read(content[:end] + bomb)


def test_rle_that_pydicom_writes_is_read() -> None:
    made = dataset(RAMP, WindowCenter=2048.5, WindowWidth=4097)
    plain = read(made)[0]
    made.compress(RLELossless)
    assert np.array_equal(read(made)[0], plain)


# A folder: by content, whose they are, and that no identifier leaves.


def folder(root: Path, *, people: int = 12, per_person: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for number in range(people * per_person):
        who = f"{PLANTED[1]}-{number % people}"
        values = rng.integers(0, 4096, (8, 8)).astype(np.int16)
        made = dataset(
            values, patient=who, RescaleIntercept="-1024", RescaleSlope="1",
            PixelSpacing=[0.5 + number / 100, 0.5],
        )  # fmt: skip
        made.PatientComments = " ".join(PLANTED)
        place = root / f"class {number % 2}" / f"IM{number:03d}"  # no suffix
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(written(made))
    return root


def load(
    root: Path, *, alone: bool = False, window: tuple[float, float] = (-1000, 3000)
) -> ImageSet:
    rules = ReadingRules(
        group=GroupRule.of("dicom:PatientID", key=KEY), window=(-1000, 3000), each_alone=alone
    )
    return load_images(
        "image-folder", path=str(root), cache_dir=root, image_size=8, channels=1, rules=rules
    )


@pytest.mark.parametrize("alone", [False, True])
def test_a_folder_of_dicom_without_suffixes_composes_classes_and_people(
    alone: bool, tmp_path: Path
) -> None:
    found = load(folder(tmp_path / "set"), alone=alone)
    assert (found.num_images, found.num_groups, found.class_names) == (
        36,
        12,
        ("class 0", "class 1"),
    )
    assert set(found.groups.tolist()) == {
        group_number(f"{PLANTED[1]}-{number}", key=KEY) for number in range(12)
    }
    inventory = found.inventory
    assert inventory is not None
    assert inventory.window == (-1000, 3000)
    assert inventory.spacing_mm == (0.5, 0.85)
    assert inventory.bits_per_channel == 16


def test_one_of_nobody_is_refused_or_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    (root / "class 0" / "IM999").write_bytes(written(dataset(RAMP, patient="")))
    with pytest.raises(DataError, match=r"IM999: dicom:PatientID names nobody"):
        load(root)
    assert load(root, alone=True).num_images == 36


def test_reports_beside_images_are_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    (root / "class 0" / "report").write_bytes((FILES / "test-SR.dcm").read_bytes())
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = load(root)
    assert found.inventory is not None
    assert [entry.why for entry in found.inventory.passed_over] == [
        "DICOM directory (no image), not read",
        "DICOM object(s) without pixels",
    ]


def test_no_identifier_is_in_any_file_or_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The canary: every element of the files that names somebody, searched for everywhere."""
    caplog.set_level(logging.DEBUG)
    root, out = folder(tmp_path / "set"), tmp_path / "run"
    out.mkdir()
    messages = []
    for number, damage in enumerate((b"", b"\xff\xff\xff\xff" * 20)):
        bad = bytearray((root / "class 0" / "IM000").read_bytes())
        cut = bad.find(PLANTED[1].encode()) + 4
        (root / "class 0" / f"bad{number}").write_bytes(bytes(bad[:cut]) + damage)
        with pytest.raises(DataError) as caught:
            load(root)
        chain: BaseException | None = caught.value
        while chain is not None:
            messages.append(repr(chain))
            chain = chain.__cause__ or chain.__context__ if not chain.__suppress_context__ else None
        load(root, alone=True)
        (root / "class 0" / f"bad{number}").unlink()
    config = load_config(
        None,
        (
            "data.name=image-folder", f"data.path={root}", "data.group=dicom:PatientID",
            "data.window=[-1000, 3000]", "data.image_size=8", "data.channels=1",
            "partition.num_sites=2", "partition.scheme=iid", "data.split=keyed",
        ),
    )  # fmt: skip
    dealt = partition_images(config, seeds=SeedTree(config.seed), cache_dir=tmp_path)
    save_parts(dealt, out / "sites.npz")
    messages += [repr(dealt), json.dumps(dealt.image_set.inventory.to_dict())]
    printed = "".join(capfd.readouterr())
    everything = "\n".join([*messages, caplog.text, printed]).encode()
    everything += b"".join(file.read_bytes() for file in out.iterdir())
    for planted in (*PLANTED, "Jansson", "2389"):
        assert planted.encode() not in everything
    saved = (out / "inventory.json").read_text()
    assert json.loads(saved)["num_groups"] == 12
