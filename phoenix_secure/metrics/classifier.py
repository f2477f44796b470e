"""A small convolutional classifier of real images: an extractor of its data set's own features.

ImageNet networks see little in handwritten digits. A network trained for a few seconds on the real
labelled images sees what tells their classes apart, and can also say which classes a model draws.
It is trained without differential privacy on the images it is given: give it images that are
public or kept back for evaluation, and do not publish its weights otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from phoenix_secure.errors import CheckpointError, DataError
from phoenix_secure.files import write_bytes
from phoenix_secure.metrics.checked import Images, check_images
from phoenix_secure.metrics.features import NetworkFeatures

__all__ = ["Classifier", "load_classifier", "train_classifier"]

FEATURE_DIM = 128
_FORMAT = "phoenix-secure/cnn-classifier/v1"
_MAX_CLASSES = 10_000


class Classifier:
    """A trained network; a ``FeatureExtractor`` named ``cnn-<dataset>`` of 128 features.

    Guarantee:  eval mode and no gradients; images must have the channels it was trained on.
    """

    def __init__(
        self,
        network: nn.Sequential,
        *,
        dataset: str,
        channels: int,
        num_classes: int,
        device: torch.device,
        batch_size: int = 256,
    ) -> None:
        self.dataset = dataset
        self.channels = channels
        self.num_classes = num_classes
        self._network = network.eval().to(device)
        self._features = NetworkFeatures(
            self._network[:-1],
            name=f"cnn-{dataset}",
            dim=FEATURE_DIM,
            device=device,
            batch_size=batch_size,
            channels=channels,
        )
        self._logits = NetworkFeatures(
            self._network,
            name=f"cnn-{dataset}",
            dim=num_classes,
            device=device,
            batch_size=batch_size,
            channels=channels,
        )

    @property
    def name(self) -> str:
        """``cnn-<dataset>``."""
        return self._features.name

    @property
    def dim(self) -> int:
        """Length of a feature vector, 128."""
        return self._features.dim

    def __call__(self, images: Images, /) -> npt.NDArray[np.float32]:
        """Features (N, 128): the activations before the last layer."""
        return self._features(self._checked(images))

    def probabilities(self, images: Images) -> npt.NDArray[np.float64]:
        """Class probabilities (N, K) of images (N, C, H, H) in [-1, 1]."""
        logits = torch.from_numpy(self._logits(self._checked(images))).double()
        return np.asarray(torch.softmax(logits, dim=1).numpy())

    def accuracy(self, images: Images, *, labels: npt.NDArray[np.int64]) -> float:
        """Share of images whose most probable class is their label."""
        predicted = self.probabilities(images).argmax(axis=1)
        if labels.shape != predicted.shape:
            raise ValueError(f"expected labels {predicted.shape}, got {labels.shape}")
        return float((predicted == labels).mean())

    def save(self, path: Path) -> None:
        """Write weights and description to one safetensors file, in one step."""
        about = {
            "format": _FORMAT,
            "dataset": self.dataset,
            "channels": str(self.channels),
            "num_classes": str(self.num_classes),
        }
        state = {key: value.contiguous().cpu() for key, value in self._network.state_dict().items()}
        write_bytes(path, save(state, metadata=about))

    def _checked(self, images: Images) -> npt.NDArray[np.float32]:
        pixels = check_images(images, what="images")
        if pixels.shape[1] != self.channels:
            raise DataError(
                f"images have {pixels.shape[1]} channels and {self.name} was trained on "
                f"{self.channels}: give images as it was trained on"
            )
        return pixels


def train_classifier(
    images: Images,
    *,
    labels: npt.NDArray[np.int64],
    num_classes: int,
    dataset: str,
    generator: torch.Generator,
    device: torch.device,
    epochs: int = 8,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
) -> Classifier:
    """Train on real labelled images (Adam, cross-entropy, learning rate falling to 0 by a cosine).

    Shape:      images (N, C, H, H) in [-1, 1] with H >= 8; labels (N,) in 0..num_classes-1.
    Guarantee:  initial weights and batch order come from ``generator`` (on the CPU) alone; on one
                CPU thread count the result is the same bit for bit.
    Raises:     DataError for images or labels that are not as above or show one class only;
                ValueError for settings out of range.
    """
    if epochs < 1 or batch_size < 1 or not 0 < learning_rate < 1:
        raise ValueError(
            "expected epochs >= 1, batch_size >= 1 and 0 < learning_rate < 1, "
            f"got {epochs}, {batch_size} and {learning_rate}"
        )
    pixels = check_images(images, what="training images")
    if pixels.shape[2] < 8:
        raise DataError(f"training images are {pixels.shape[2]} pixels wide: give at least 8")
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels have shape {labels.shape} {labels.dtype}: give one whole number "
            f"for each of the {len(pixels)} images"
        )
    if labels.min() < 0 or labels.max() >= num_classes or labels.min() == labels.max():
        raise DataError(f"labels must lie in 0..{num_classes - 1} and show two classes or more")
    channels = pixels.shape[1]
    network = _build(channels=channels, num_classes=num_classes).to_empty(device="cpu")
    _initialise(network, generator=generator)
    network.train().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    batches_per_epoch = -(-len(pixels) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches_per_epoch)
    x = torch.from_numpy(pixels)
    y = torch.from_numpy(labels.astype(np.int64))
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(x[batch].to(device)), y[batch].to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return Classifier(
        network, dataset=dataset, channels=channels, num_classes=num_classes, device=device
    )


def load_classifier(path: Path, *, device: torch.device) -> Classifier:
    """Read what ``Classifier.save`` wrote.

    Raises:     CheckpointError for a file that is missing, truncated or something else.
    """
    fix = "train the classifier again and save it there"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read a classifier from {path}: {fix}") from error
    sizes = about.get("channels", ""), about.get("num_classes", "")
    if about.get("format") != _FORMAT or not all(text.isdecimal() for text in sizes):
        raise CheckpointError(f"{path} holds no {_FORMAT}: {fix}")
    channels, num_classes = (int(text[:6]) for text in sizes)
    if channels not in (1, 3) or not 2 <= num_classes <= _MAX_CLASSES:
        raise CheckpointError(f"{path} describes {sizes[0]} channels, {sizes[1]} classes: {fix}")
    network = _build(channels=channels, num_classes=num_classes)
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds weights of another network: {fix}") from error
    if not all(value.dtype == torch.float32 and value.isfinite().all() for value in state.values()):
        raise CheckpointError(f"{path} holds weights that are not finite float32: {fix}")
    return Classifier(
        network,
        dataset=about.get("dataset", "unnamed"),
        channels=channels,
        num_classes=num_classes,
        device=device,
    )


def _build(*, channels: int, num_classes: int) -> nn.Sequential:
    """The network without weights (GroupNorm: an image's features depend on it alone)."""
    with torch.device("meta"):
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 24, 3, padding=1),
                norm1=nn.GroupNorm(8, 24),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(24, 48, 3, padding=1),
                norm2=nn.GroupNorm(8, 48),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(48, 64, 3, padding=1),
                norm3=nn.GroupNorm(8, 64),
                relu3=nn.ReLU(),
                pool3=nn.AdaptiveMaxPool2d(3),
                flatten=nn.Flatten(),
                linear1=nn.Linear(64 * 9, FEATURE_DIM),
                relu4=nn.ReLU(),
                linear2=nn.Linear(FEATURE_DIM, num_classes),
            )
        )


def _initialise(network: nn.Sequential, *, generator: torch.Generator) -> None:
    """He's initial weights; the last layer ten times smaller, so that no class starts preferred."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        network.get_parameter("linear2.weight").mul_(0.1)
