"""Decoded pictures are kept by content, for whoever asks, and never stand in for others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data import folder as reader
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.reading_progress import reporting
from phoenix_secure.data.sources import load_images

NUM = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(NUM):
        file = tmp_path / "set" / "cd"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * number, np.uint8)).save(file)
    return tmp_path / "set"


def load(folder: Path, *, each_alone: bool = False, **form: int) -> ImageSet:
    rules = ReadingRules(cache=folder.parent / "kept", each_alone=each_alone)
    return load_images(
        "image-folder",
        path=str(folder),
        cache_dir=folder,
        rules=rules,
        **form,  # type: ignore[arg-type]
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures were decoded, reading by reading."""
    counts: list[int] = []
    original = reader.decode_files

    def counting(read, **options):  # type: ignore[no-untyped-def]
        counts.append(len(read))
        return original(read, **options)

    monkeypatch.setattr(reader, "decode_files", counting)
    return counts


def test_the_second_start_decodes_nothing(folder: Path, decoded: list[int]) -> None:
    first, second = load(folder), load(folder)
    assert decoded == [NUM]
    assert first.digest() == second.digest()
    assert first.inventory == second.inventory


def test_nothing_is_kept_unasked(folder: Path) -> None:
    load_images("image-folder", path=str(folder), cache_dir=folder.parent / "cache")
    assert {path.name for path in folder.parent.iterdir()} == {"set"}


def test_the_copy_is_for_its_owner_alone(folder: Path) -> None:
    load(folder)
    kept = folder.parent / "kept"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in kept.iterdir()] == [0o600]


def test_names_and_classes_are_not_part_of_the_copy(folder: Path, decoded: list[int]) -> None:
    load(folder)
    (folder / "c").rename(folder / "b")
    assert load(folder).class_names == ("b", "d")
    assert decoded == [NUM]


def test_another_content_is_decoded(folder: Path, decoded: list[int]) -> None:
    load(folder)
    file = folder / "c" / "0.png"
    before = file.stat()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # times tell nothing
    assert load(folder).images[0, 0, 0, 0] == 77
    assert decoded == [NUM, NUM]


def test_another_form_is_decoded(folder: Path, decoded: list[int]) -> None:
    load(folder)
    assert load(folder, image_size=16).image_size == 16
    assert load(folder, channels=3).channels == 3
    assert decoded == [NUM] * 3


def test_a_damaged_copy_is_made_again(folder: Path, decoded: list[int]) -> None:
    whole = load(folder)
    (kept,) = (folder.parent / "kept").iterdir()
    content = kept.read_bytes()
    for damaged in (b"", content[:-100], content.replace(b"pixels", b"pixelz")):
        kept.write_bytes(damaged)
        assert load(folder).digest() == whole.digest()
    assert decoded == [NUM] * 4


def test_a_set_with_something_to_tell_is_told_again(
    folder: Path, decoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "d" / "bad.png").write_bytes(b"no picture")
    for _ in range(2):
        caplog.clear()
        assert load(folder, each_alone=True, image_size=8, channels=1).num_images == NUM
        assert "left out" in caplog.text
    assert decoded == [NUM + 1] * 2


def test_few_copies_are_kept(folder: Path) -> None:
    for size in range(8, 16):
        load(folder, image_size=size)
    assert len(list((folder.parent / "kept").iterdir())) == 4


def test_whoever_listens_hears_of_the_end(folder: Path) -> None:
    heard = []
    with reporting(lambda *news: heard.append(news)):
        load(folder)
    load(folder)
    assert heard == [
        ("inspecting files", NUM, NUM),
        ("looking for pictures in the cache", NUM, NUM),
        ("decoding pictures", NUM, NUM),
    ]
