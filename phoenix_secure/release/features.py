"""Features of single images, fixed before anybody looks at data, with an L2 norm of at most 1.

Random Fourier features, (cos Wx, sin Wx) / sqrt(d / 2), of some of

- pixel: the pixels themselves;
- hog: differences of neighbouring pixels along eight directions, the positive parts pooled to a
  grid of 7 x 7 and scaled to length 1. Differences leave brightness and contrast free;
- patch: the 5 x 5 pixels around every second pixel of every second row, the waves averaged over a
  grid of 4 x 4. Three filters of four leave the brightness of the patch free. A mean over a place
  tells edges and texture there, which the distance of whole pictures hardly sees.

*hogpix* adds the pooled means of the pixels and of their squares, a fifth of the squared norm.
Colour images enter channel by channel.

The same map is used twice. A site needs ``exact_features``: the features of one image must not
depend on the images beside it, bit for bit, because a neighbouring data set lacks one of them. The
generator needs gradients and speed: ``FeatureMap.__call__``.

Source: Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines; Dalal and Triggs
(2005) for orientations; Morrow et al. (2017), arXiv:1706.00125, for averaged waves of patches;
Harder, Adamczewski and Park (2021), arXiv:2002.11603 (DP-MERF) for releasing class-wise mean
features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from phoenix_secure.release.layout import CELLS, DIRECTIONS, GRID, PATCH, ReleaseLayout
from phoenix_secure.rng import SeedTree

__all__ = ["NORM_BOUND", "FeatureMap", "exact_features"]

# Below 1 by more than float64 rounding can add.
NORM_BOUND = 1 - 1e-6
_HOG_BAND = 0.5
_PATCH_BAND = 0.5
_STRIDE = 2  # of patches
_PIXEL_BAND = 9.0  # about the median distance of two digits of 28 x 28 pixels
# Images of one block, always filled up: the same instructions run whatever the batch is.
_BLOCK = 64
# Inputs and weights of the projections are whole multiples of these: every partial sum below 2^17
# is then exact in float64, in whatever order a machine adds.
_INPUT_BITS = 20
_WEIGHT_BITS = 16

Quantise = Callable[[torch.Tensor], torch.Tensor]


class FeatureMap:
    """phi: images (B, C, H, W) in [0, 1] -> (B, D), |phi| <= 1 - 1e-6.

    seeds   of the random matrices: public, the plan's
    """

    def __init__(self, layout: ReleaseLayout, *, seeds: SeedTree) -> None:
        self.layout = layout
        self.form = layout.channels, layout.image_size, layout.image_size
        self.size = layout.num_features
        # Distances of pictures grow with the root of the number of pixels.
        inputs = layout.num_inputs
        bands = {
            "pixel": _PIXEL_BAND * math.sqrt(inputs["pixel"] / 784),
            "hog": _HOG_BAND,
            "patch": _PATCH_BAND * math.sqrt(layout.channels),
        }
        streams = seeds.child("release", "features")
        self._projections = {}
        for kind, size in layout.projections.items():
            num_waves = size // (2 * CELLS**2 if kind == "patch" else 2)
            drawn = streams.child(kind).numpy().standard_normal((inputs[kind], num_waves))
            weights = _on_grid(drawn / bands[kind])
            if kind == "patch":
                weights = _on_grid(_mostly_free_of_brightness(weights))
            self._projections[kind] = torch.from_numpy(weights)

    def to(self, device: torch.device) -> FeatureMap:
        """Move the matrices."""
        self._projections = {name: each.to(device) for name, each in self._projections.items()}
        return self

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Differentiable, in the precision of ``images``."""
        return self._features(images, lambda values: values, hog=_quick_hog)

    def _features(
        self,
        images: torch.Tensor,
        quantise: Quantise,
        *,
        hog: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        parts = []
        for kind, projection in self._projections.items():
            weight = self.layout.wave_weights[kind]
            if kind == "patch":
                parts.append(_patch_waves(quantise(images), projection, quantise) * weight)
                continue
            inputs = images.flatten(1) if kind == "pixel" else hog(images)
            angles = quantise(inputs) @ projection.to(images.dtype)
            wave = torch.cat([angles.cos(), angles.sin()], 1) * weight
            if kind == "hog":
                # A picture without an edge has no direction: it enters zeros.
                wave = wave * (inputs.detach() != 0).any(1, keepdim=True)
            parts.append(wave)
        if self.layout.num_anchors:
            means = torch.cat([_pooled(images), _pooled(images * images)], 1)
            parts.append(means * self.layout.anchor_weight)
        phi = quantise(torch.cat(parts, 1))
        norm = phi.norm(dim=1, keepdim=True)
        bounded: torch.Tensor = phi * (NORM_BOUND / norm.clamp(min=NORM_BOUND))
        return bounded


@torch.no_grad()
def exact_features(images: np.ndarray, features: FeatureMap) -> Iterator[np.ndarray]:
    """The features (b, D) float64 of images (n, C, H, W) uint8, block by block, in order.

    Guarantee:  the features of one image are the same bits whatever images come with it. Blocks
                have one shape; sums that a library may order as it likes are exact; everything
                else is arithmetic on single values.
    Raises:     ValueError for images of another form.
    """
    if images.dtype != np.uint8 or images.shape[1:] != features.form:
        raise ValueError(f"expected uint8 images of {features.form}, got {images.shape[1:]}")
    for start in range(0, len(images), _BLOCK):
        part = images[start : start + _BLOCK]
        block = np.zeros((_BLOCK, *features.form))
        block[: len(part)] = part
        found = features._features(torch.from_numpy(block).div_(255), _to_grid, hog=_exact_hog)
        yield found[: len(part)].numpy()


def _to_grid(values: torch.Tensor) -> torch.Tensor:
    return (values * 2.0**_INPUT_BITS).round() * 2.0**-_INPUT_BITS


def _on_grid(weights: np.ndarray) -> np.ndarray:
    step = 2.0**-_WEIGHT_BITS
    rounded: np.ndarray = np.rint(weights / step) * step
    return rounded


def _mostly_free_of_brightness(filters: np.ndarray) -> np.ndarray:
    """Three columns of four with the sum 0; the others scaled down, as brightness varies more."""
    num_free = filters.shape[1] * 3 // 4
    free = filters[:, :num_free]
    return np.concatenate([free - free.mean(0), filters[:, num_free:] / PATCH], axis=1)


def _patch_waves(images: torch.Tensor, filters: torch.Tensor, quantise: Quantise) -> torch.Tensor:
    """Cosines and sines of every patch, averaged in each cell: (B, 2 * filters * CELLS^2)."""
    num_filters = filters.shape[1]
    kernel = filters.T.reshape(num_filters, images.shape[1], PATCH, PATCH).to(images.dtype)
    angles = F.conv2d(images, kernel, stride=_STRIDE, padding=PATCH // 2)
    waves = quantise(torch.cat([angles.cos(), angles.sin()], 1))
    return F.adaptive_avg_pool2d(waves, CELLS).flatten(1)


def _exact_hog(images: torch.Tensor) -> torch.Tensor:
    """(B, 8 * C * 49): length 1, or zeros for a picture without an edge."""
    dx = images[:, :, 1:-1, 2:] - images[:, :, 1:-1, :-2]
    dy = images[:, :, 2:, 1:-1] - images[:, :, :-2, 1:-1]
    # The eight directions must be four lines and their opposites: ``_quick_hog`` relies on it.
    turns = [2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    along = torch.cat([(math.cos(a) * dx + math.sin(a) * dy).relu() for a in turns], 1)
    pooled = _to_grid(_pooled(F.pad(along, (1, 1, 1, 1))))
    return F.normalize(pooled, dim=1)


def _quick_hog(images: torch.Tensor) -> torch.Tensor:
    """The same but for the last bits, from half as many values: opposite directions share a line,
    and their positive parts are (|a| + a) / 2 and (|a| - a) / 2."""
    dx = images[:, :, 1:-1, 2:] - images[:, :, 1:-1, :-2]
    dy = images[:, :, 2:, 1:-1] - images[:, :, :-2, 1:-1]
    diagonal = math.sqrt(0.5)
    lines = torch.cat([dx, (dx + dy) * diagonal, dy, (dy - dx) * diagonal], 1)
    lines = F.pad(lines, (1, 1, 1, 1))
    signed, absolute = _pooled(lines), _pooled(lines.abs())
    return F.normalize(torch.cat([absolute + signed, absolute - signed], 1), dim=1)


def _pooled(images: torch.Tensor) -> torch.Tensor:
    """Means over 7 x 7 cells, which overlap where 7 does not divide the side."""
    return F.adaptive_avg_pool2d(images, GRID).flatten(1)
