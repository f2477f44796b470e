"""Mock data have the form that the owner states, and come from nothing private."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from syft_datasets.dataset_manager import SyftDatasetManager

from phoenix_secure.cli.governing import Mock
from phoenix_secure.cli.governing import publish as publish_command
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError
from phoenix_secure.governance.mock_data import MockKind, mock_images, publish_mock

OWNER, COORDINATOR = "clinic@test.invalid", "server@test.invalid"


def make(kind: MockKind, tmp_path: Path, *, size: int = 16, channels: int = 1, seed: int = 0):
    return mock_images(
        kind,
        image_size=size,
        channels=channels,
        rng=np.random.default_rng(seed),
        cache_dir=tmp_path / "cache",
    )


def publish(tmp_path: Path, kind: MockKind = MockKind.NOISE, **more) -> Path:
    fields = {"owner": OWNER, "coordinator": COORDINATOR, "name": "images"} | more
    return publish_mock(tmp_path / "box", kind=kind, images=make(kind, tmp_path), **fields)


@pytest.mark.parametrize("kind", list(MockKind))
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3)])
def test_mock_images_have_the_stated_form(tmp_path, kind, size, channels) -> None:
    images = make(kind, tmp_path, size=size, channels=channels)
    assert (images.shape, images.dtype) == ((256, channels, size, size), np.uint8)


def test_noise_is_uniform_and_pixels_are_independent(tmp_path) -> None:
    images = make(MockKind.NOISE, tmp_path)
    counts = np.bincount(images.ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4
    neighbours = np.corrcoef(images[..., :-1].ravel(), images[..., 1:].ravel())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(images.size)
    # The test can fail: real images are neither.
    digits = make(MockKind.PUBLIC, tmp_path)
    assert np.corrcoef(digits[..., :-1].ravel(), digits[..., 1:].ravel())[0, 1] > 0.5


@pytest.mark.parametrize(("size", "channels"), [(3, 1), (8, 2), (2000, 3)])
def test_forms_that_no_plan_can_have_are_refused(tmp_path, size, channels) -> None:
    with pytest.raises(ConfigError, match="--image-size"):
        make(MockKind.NOISE, tmp_path, size=size, channels=channels)


def test_published_mock_is_a_pysyft_data_set_that_a_plan_can_be_developed_on(tmp_path) -> None:
    path = publish(tmp_path, MockKind.PUBLIC)
    data_set = SyftDatasetManager(tmp_path / "box", COORDINATOR).get("images", datasite=OWNER)
    assert path in [Path(each) for each in data_set.mock_files]
    images = load_images("npz", path=str(path), cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(images.images, make(MockKind.PUBLIC, tmp_path))


def test_private_part_holds_a_note_and_no_image(tmp_path) -> None:
    publish(tmp_path)
    data_set = SyftDatasetManager(tmp_path / "box", OWNER).get("images")
    names = {path.name for path in Path(data_set.private_dir).rglob("*") if path.is_file()}
    assert "where.json" in names
    assert names <= {"where.json", "private_metadata.yaml", "syft.pub.yaml"}


def test_publishing_twice_and_hostile_names_are_refused(tmp_path) -> None:
    publish(tmp_path)
    with pytest.raises(ConfigError, match="published already"):
        publish(tmp_path)
    for name in ("../up", "", "a/b", ".hidden", "v1"):
        with pytest.raises(ConfigError, match="name"):
            publish(tmp_path, name=name)


def test_no_file_of_the_private_set_is_ever_opened(tmp_path, governed) -> None:
    """A watch on every file that Python opens, while the command that publishes runs."""
    private = tmp_path / "private-images"
    private.mkdir()
    (private / "patient.npz").write_bytes(b"secret")
    governed.change(
        "site-01", data={"source": "own", "name": "npz", "path": str(private / "patient.npz")}
    )
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    publish_command(governed.site("site-01").path, image_size=8, channels=1, mock=Mock.NOISE)
    watching = False
    assert opened
    assert not [path for path in opened if "private-images" in path]
    events = [line["event"] for line in governed.log("site-01")]
    assert events == ["mock data published"]
