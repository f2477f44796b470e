"""What a picture's strokes look like at two scales: features for a linear classifier.

::

    S0 = low x            S1 = low |x * psi_j|   j = 0, 1            S2 = low ||x * psi_0| * psi_1|

x is one channel, psi_j are Morlet wavelets at eight angles and ``low`` a Gaussian that keeps every
fourth pixel: 81 maps of (H / 4)^2 numbers. Groups of three maps are standardised for each image by
itself, and the whole is scaled to length 1. Nothing is learned, and nothing looks at other images.

A site needs the exact features below. A generator needs gradients: ``Scattering.soft`` computes the
same without rounding.

Guarantee:  the features of one image are the same bits whatever images come with it: pixels,
            filters and maps are whole multiples of a step, so that every sum below is exact in the
            precision that it is made in, in whatever order a machine adds; everything else is
            arithmetic on single values.
Source:     Bruna and Mallat (2013), arXiv:1203.1513 (scattering); Tramer and Boneh (2021),
            arXiv:2011.11660, section 4 (private linear classifiers on standardised scattering).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["Scattering"]

_ANGLES = 8
_MAPS = 1 + 2 * _ANGLES + _ANGLES**2
_GROUP = 3  # maps that are standardised together
_LARGEST_SIDE = 32  # larger pictures are shrunk first
_BLOCK = 64  # images of one block, always filled up
_FILTER_STEP = 2.0**-11
_MAP_STEP = 2.0**-2  # of pixels from 0 to 255
_STEP = 2.0**-12  # of standardised values
_LEAST_DEVIATION = 0.255
_LEAST_MODULUS = 0.1  # of soft features: a root has no slope at zero


class Scattering:
    """Features of images (n, C, H, H) uint8.

    size    d, numbers of one image
    """

    def __init__(self, *, channels: int, image_size: int) -> None:
        self.form = channels, image_size, image_size
        self._shrink = -(-image_size // _LARGEST_SIDE)
        side = image_size // self._shrink
        self._grid = -(-side // 4)
        self._padded = 4 * self._grid
        self.size = channels * _MAPS * self._grid**2
        self._fine = _morlet(sigma=0.8, frequency=3 * math.pi / 4, size=7)
        self._coarse = _morlet(sigma=1.6, frequency=3 * math.pi / 8, size=11)
        self._low4, self._low2 = _gaussian(8, sigma=1.6), _gaussian(4, sigma=0.8)

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(n, d) float64 of length 1, but for rounding; zeros for a black picture.

        Raises:     ValueError for images of another form.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.form:
            raise ValueError(f"expected uint8 images of {self.form}, got {images.shape[1:]}")
        found = np.empty((len(images), self.size))
        for start in range(0, len(images), _BLOCK):
            part = images[start : start + _BLOCK]
            block = np.zeros((_BLOCK, *self.form), np.float32)
            block[: len(part)] = part
            found[start : start + len(part)] = self._block(torch.from_numpy(block))[: len(part)]
        return found

    def soft(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, d) of length 1 of images (n, C, H, H) in [0, 1], differentiable.

        They differ from the exact ones by the rounding of those, a twentieth of the length.
        """
        groups = self._groups(images * 255, lambda values: values, _soft_modulus, _soft_pooled)
        variance, mean = torch.var_mean(groups, 2, correction=0, keepdim=True)
        deviation = (variance + _LEAST_MODULUS**2).sqrt() + _LEAST_DEVIATION
        return F.normalize(((groups - mean) / deviation).flatten(1), dim=1)

    def _groups(
        self,
        images: torch.Tensor,
        to_map: Callable[[torch.Tensor], torch.Tensor],
        modulus: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        pooled: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
    ) -> torch.Tensor:
        """The maps of images with pixels from 0 to 255, by groups: (b, g, n)."""
        if self._shrink > 1:
            images = to_map(F.avg_pool2d(images, self._shrink))
        missing = self._padded - images.shape[-1]
        images = F.pad(images, (0, missing, 0, missing), mode="replicate")

        def moduli(maps: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
            return to_map(modulus(*_convolved(maps, filters)))

        x = images.flatten(0, 1)[:, None]  # (b C, 1, H, H)
        fine, coarse = moduli(x, self._fine), moduli(x, self._coarse)
        half = to_map(F.avg_pool2d(fine, 2))
        twice = moduli(half.flatten(0, 1)[:, None], self._fine)
        maps = [pooled(each, self._low4, 4) for each in (x, fine, coarse)]
        maps.append(pooled(twice.view(len(x), -1, *half.shape[2:]), self._low2, 2))
        return torch.cat(maps, 1).view(len(images), -1, _GROUP * self._grid**2)

    def _block(self, images: torch.Tensor) -> np.ndarray:
        groups = self._groups(images, _to_map, _modulus, _pooled)
        found = _rounded(_standardised(groups.double()).flatten(1), _STEP)
        norm = found.square().sum(1, keepdim=True).sqrt()
        return (found / norm.clamp(min=_STEP)).numpy()


def _rounded(values: torch.Tensor, step: float) -> torch.Tensor:
    return (values / step).round() * step


def _to_map(values: torch.Tensor) -> torch.Tensor:
    return _rounded(values, _MAP_STEP)


def _standardised(groups: torch.Tensor) -> torch.Tensor:
    """Mean 0 and deviation 1 for each group (b, g, n); sums of n values and squares are exact."""
    num = groups.shape[2]
    total, squares = groups.sum(2, keepdim=True), groups.square().sum(2, keepdim=True)
    mean = total / num
    deviation = (squares / num - mean.square()).clamp(min=0).sqrt()
    return (groups - mean) / (deviation + _LEAST_DEVIATION)


def _convolved(images: torch.Tensor, filters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x * psi of (b, 1, H, H) at each angle: real and imaginary parts (b, 8, H, H)."""
    size, side = filters.shape[-1], images.shape[-1]
    columns = F.unfold(_edged(images, size // 2), size)
    # Unfolded and multiplied: some algorithms of a convolution round on the way.
    parts = (filters.flatten(1) @ columns).view(len(images), 2, _ANGLES, side, side)
    return parts[:, 0], parts[:, 1]


def _modulus(real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
    return (real * real + imaginary * imaginary).sqrt()


def _soft_modulus(real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
    return (real * real + imaginary * imaginary + _LEAST_MODULUS**2).sqrt()


def _soft_pooled(maps: torch.Tensor, low: torch.Tensor, stride: int) -> torch.Tensor:
    """The filter is a product of two lines, but for rounding: one matrix for each axis."""
    size, side = low.shape[-1], maps.shape[-1]
    line = low.sum(1) / low.sum().sqrt()
    columns = torch.eye(side)[:, None]  # (H, 1, H): what each pixel adds to every place
    edged = F.pad(columns, ((size - stride) // 2,) * 2, mode="replicate")
    matrix = F.conv1d(edged, line[None, None], stride=stride)[:, 0]  # (H, H / stride)
    return (matrix.T @ maps @ matrix).flatten(2)


def _pooled(maps: torch.Tensor, low: torch.Tensor, stride: int) -> torch.Tensor:
    """(b, m, H, H) to (b, m, H / stride squared)."""
    num, size = maps.shape[1], low.shape[-1]
    flat = maps.flatten(0, 1)[:, None]
    columns = F.unfold(_edged(flat, (size - stride) // 2), size, stride=stride)
    return (low.flatten()[None] @ columns).view(len(maps), num, -1)


def _edged(images: torch.Tensor, width: int) -> torch.Tensor:
    return F.pad(images, (width,) * 4, mode="replicate")


def _morlet(*, sigma: float, frequency: float, size: int) -> torch.Tensor:
    """Real and imaginary parts at eight angles, (2 * 8, size, size), in whole steps."""
    at = np.arange(size) - size // 2
    y, x = np.meshgrid(at, at, indexing="ij")
    found = []
    for turn in (math.pi * k / _ANGLES for k in range(_ANGLES)):
        along = math.cos(turn) * x + math.sin(turn) * y
        across = math.cos(turn) * y - math.sin(turn) * x
        envelope = np.exp(-(along**2 + across**2 / 4) / (2 * sigma**2))
        wave = envelope * np.exp(1j * frequency * along)
        wave -= envelope * (wave.sum() / envelope.sum())
        found.append(wave / envelope.sum())
    parts = np.stack([np.real(found), np.imag(found)]).reshape(-1, size, size)
    return _filter(parts)


def _gaussian(size: int, *, sigma: float) -> torch.Tensor:
    """(size, size), adding up to 1 but for rounding, in whole steps."""
    at = np.arange(size) - (size - 1) / 2
    line = np.exp(-(at**2) / (2 * sigma**2))
    return _filter(np.outer(line, line) / line.sum() ** 2)


def _filter(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.rint(values / _FILTER_STEP) * _FILTER_STEP).float()
