"""The gradient of a convolution's weights for each image of a batch.

The sum over positions is the same as for the whole batch; what differs is that n sums of one image
are wanted. Libraries are fast at it in other layouts than at one sum over all.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.grad import conv2d_weight

from phoenix_secure.privacy.sample_gradients import Instantiated, Space

__all__ = ["weight_gradients"]

# Positions of a map, or channels out of it, up to which products of matrices beat a convolution of
# groups, measured with oneDNN: at 8x8 a convolution of groups takes up to five times as long.
_SMALL_MAP, _FEW_CHANNELS = 256, 4
# Images whose shifted copies are made at a time: so few stay in the cache.
_BLOCK = 8


def weight_gradients(
    layer: nn.Conv2d,
    x: torch.Tensor,
    gradient: torch.Tensor,
    *,
    num_images: int,
    space: Space | None = None,
) -> Instantiated:
    """Each image's gradient, summed over its rows.

    Shape:      x (N, in, H, W) and the output's gradient (N, out, H', W') for N rows, those of
                the first image before those of the second.
    space       where they may be put
    """
    if layer.groups > 1:
        return _by_groups(layer, x, gradient, num_images)
    if (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0)):
        return _pointwise(x, gradient, num_images, space)
    small = layer.stride == (1, 1) and gradient[0, 0].numel() <= _SMALL_MAP
    if small or layer.out_channels <= _FEW_CHANNELS:
        return _by_products(layer, x, gradient, num_images, space)
    return _by_groups(layer, x, gradient, num_images)


def _by_groups(
    layer: nn.Conv2d, x: torch.Tensor, gradient: torch.Tensor, num_images: int
) -> Instantiated:
    """One convolution of n times as many groups, each of which sees one image; an image's rows are
    that convolution's batch."""
    weights = conv2d_weight(  # type: ignore[no-untyped-call]
        _side_by_side(x, num_images),
        (num_images * layer.out_channels, *layer.weight.shape[1:]),
        _side_by_side(gradient, num_images),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=num_images * layer.groups,
    )
    return Instantiated(weights.view(num_images, *layer.weight.shape))


def _side_by_side(rows: torch.Tensor, num_images: int) -> torch.Tensor:
    """(N, C, H, W) -> (R, n C, H, W): images become channels."""
    by_image = rows.reshape(num_images, -1, *rows.shape[1:])
    return by_image.transpose(0, 1).reshape(-1, num_images * rows.shape[1], *rows.shape[2:])


def _pointwise(
    x: torch.Tensor, gradient: torch.Tensor, num_images: int, space: Space | None
) -> Instantiated:
    """A 1x1 convolution: one product of matrices over an image's positions."""
    left, right = _positions(gradient, num_images), _positions(x, num_images)
    found = (space or Space()).like(x, num_images, left.shape[1], right.shape[1])
    torch.bmm(left, right.transpose(1, 2), out=found)
    return Instantiated(found[:, :, :, None, None])


def _positions(rows: torch.Tensor, num_images: int) -> torch.Tensor:
    """(N, C, H, W) -> (n, C, R H W): the positions of an image's rows side by side."""
    by_image = rows.reshape(num_images, -1, *rows.shape[1:])
    return by_image.transpose(1, 2).reshape(num_images, rows.shape[1], -1)


def _by_products(
    layer: nn.Conv2d,
    x: torch.Tensor,
    gradient: torch.Tensor,
    num_images: int,
    space: Space | None = None,
) -> Instantiated:
    """Shifted copies of the input along its width; then one product of matrices for each row of the
    kernel."""
    (height_k, width_k), (stride, _) = layer.kernel_size, layer.stride
    height = gradient.shape[2]
    left = _positions(gradient, num_images)
    by_image = x.reshape(num_images, -1, *x.shape[1:]).transpose(1, 2)  # (n, in, R, H, W)
    shape = (num_images, height_k, layer.out_channels, layer.in_channels, width_k)
    found = (space or Space()).like(x, *shape)
    shifted = _Shifted(layer, by_image, width=gradient.shape[3])
    for first in range(0, num_images, _BLOCK):
        block = slice(first, min(first + _BLOCK, num_images))
        copies = shifted.of(by_image[block])
        for row in range(height_k):
            start = row * layer.dilation[0]
            lines = copies[..., start : start + stride * (height - 1) + 1 : stride, :]
            right = lines.reshape(len(copies), layer.in_channels * width_k, -1)
            torch.bmm(left[block], right.transpose(1, 2), out=found[block, row].flatten(2))
    return Instantiated(found, order=(0, 2, 3, 1, 4), shape=layer.weight.shape)


class _Shifted:
    """Copies of images, one for each column of the kernel, with the numbers that it meets."""

    def __init__(self, layer: nn.Conv2d, by_image: torch.Tensor, *, width: int) -> None:
        channels, num_rows, height, old_width = by_image.shape[1:]
        assert not isinstance(layer.padding, str)  # noqa: S101 - such a layer has no rule
        (pad_h, pad_w), stride = layer.padding, layer.stride[1]
        shape = (_BLOCK, channels, layer.kernel_size[1], num_rows, height + 2 * pad_h, width)
        self._copies = by_image.new_zeros(shape)  # the padding stays zero
        self._lines = slice(pad_h, pad_h + height)
        self._columns = []
        for column in range(layer.kernel_size[1]):
            first = column * layer.dilation[1] - pad_w
            low = max(0, -(first // stride))
            high = min(width, (old_width - 1 - first) // stride + 1)
            if low < high:
                here = slice(first + low * stride, first + (high - 1) * stride + 1, stride)
                self._columns.append((column, slice(low, high), here))

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """(b, in, R, H, W) -> (b, in, width of the kernel, R, H + 2 pad, W'), until the next."""
        copies = self._copies[: len(images)]
        for column, there, here in self._columns:
            copies[:, :, column, :, self._lines, there] = images[..., here]
        return copies
