"""The network G(z, k) that a release is fitted with, or several that share its images."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from phoenix_secure.rng import SeedTree

__all__ = [
    "AnyGenerator",
    "Generator",
    "GeneratorForm",
    "MixedGenerator",
    "build_generator",
    "empty_generator",
    "networks_of",
]

_GLOBAL_GENERATOR = threading.Lock()
_HIDDEN = 256
_WIDTH = 64
_FINE = 8  # channels at the full size
_SATURATION = 0.1  # of black and white: inputs at which they are reached are finite
_LARGEST = 4096  # pixels a side, numbers in a latent: a folder cannot ask for any memory it likes


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorForm:
    """The sizes that decide the network; ``num_classes`` = 1 is one without labels.

    num_networks    that draw the images between them
    """

    channels: int
    image_size: int
    num_classes: int
    latent_size: int
    num_networks: int = 1

    def __post_init__(self) -> None:
        form = self.channels, self.image_size, self.num_classes
        sizes = (*form, self.latent_size, self.num_networks)
        if not all(isinstance(size, int) and 1 <= size <= _LARGEST for size in sizes):
            raise ValueError(f"expected sizes of a generator from 1 to {_LARGEST}, got {sizes}")


class Generator(nn.Module):
    """Latents (B, latent_size) and labels (B,) -> images (B, C, H, W) in [0, 1].

    The last doubling folds 2 x 2 pixels into channels; one convolution of few channels works at the
    full size. It takes away the pattern that folding leaves, and draws fine detail. Black and white
    are reached, not only approached.
    """

    def __init__(self, form: GeneratorForm) -> None:
        super().__init__()
        self.form = form
        doublings = 2 if form.image_size <= 32 else 3
        self._side = -(-form.image_size // 2**doublings)
        inputs = form.latent_size + (form.num_classes if form.num_classes > 1 else 0)
        times = 1 if form.channels == 1 else 2
        width = _WIDTH * 2 ** (doublings - 2) * times
        self._shape = width, self._side, self._side
        flat = width * self._side**2
        self.dense = nn.Sequential(
            *(nn.Linear(inputs, _HIDDEN), nn.BatchNorm1d(_HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, flat), nn.BatchNorm1d(flat), nn.ReLU()),
        )
        layers: list[nn.Module] = []
        for _ in range(doublings - 1):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(width, width // 2, 3, padding=1),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(),
            ]
            width //= 2
        fine = _FINE * times
        layers += [
            nn.Conv2d(width, 4 * fine, 3, padding=1),
            nn.PixelShuffle(2),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
            nn.Conv2d(fine, form.channels, 3, padding=1),
        ]
        self.image = nn.Sequential(*layers)

    def forward(
        self, latents: torch.Tensor, labels: torch.Tensor, *, sharpness: float = 1.0
    ) -> torch.Tensor:
        if self.form.num_classes > 1:
            one_hot = F.one_hot(labels, self.form.num_classes).to(latents.dtype)
            latents = torch.cat([latents, one_hot], 1)
        folded = self.dense(latents).view(len(latents), *self._shape)
        # NHWC: convolutions of few channels take half the time on a CPU.
        folded = folded.contiguous(memory_format=torch.channels_last)
        size = self.form.image_size
        logits = self.image(folded)[:, :, :size, :size].contiguous()
        images: torch.Tensor = (logits * sharpness).sigmoid() * (1 + 2 * _SATURATION) - _SATURATION
        return images.clamp(0, 1)


class MixedGenerator(nn.Module):
    """Several generators: a latent's first number decides which of them draws the image, each as
    likely as any other.

    What is odd about one of them is odd about its share of the images alone.
    """

    def __init__(self, form: GeneratorForm) -> None:
        super().__init__()
        self.form = form
        self.networks = nn.ModuleList(Generator(form) for _ in range(form.num_networks))

    def forward(
        self, latents: torch.Tensor, labels: torch.Tensor, *, sharpness: float = 1.0
    ) -> torch.Tensor:
        size, num = self.form.image_size, len(self.networks)
        whose = (torch.special.ndtr(latents[:, 0]) * num).long().clamp(max=num - 1)
        images = latents.new_empty(len(latents), self.form.channels, size, size)
        for number, network in enumerate(self.networks):
            places = (whose == number).nonzero()[:, 0]
            if len(places):
                drawn = network(latents[places], labels[places], sharpness=sharpness)
                images = images.index_copy(0, places, drawn)
        return images


AnyGenerator = Generator | MixedGenerator


def build_generator(form: GeneratorForm, *, seeds: SeedTree) -> AnyGenerator:
    """Freshly initialised, the same for the same ``seeds``."""
    # torch initialises from its global generator, which is lent to one thread and put back.
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.child("release", "initial-weights").entropy() % (1 << 63))
        return empty_generator(form)


def networks_of(generator: AnyGenerator) -> list[Generator]:
    """The networks that draw the images of ``generator`` between them."""
    found = [generator] if isinstance(generator, Generator) else generator.networks
    return [each for each in found if isinstance(each, Generator)]


def empty_generator(form: GeneratorForm) -> AnyGenerator:
    """A network of any weights, for those of a folder."""
    return Generator(form) if form.num_networks == 1 else MixedGenerator(form)
