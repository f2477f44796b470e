"""Layers whose gradients of single images are found in one batched backward pass.

A rule runs its layer on N = n R rows (n images of R rows each). From the gradient of the output it
finds that of the input, and each image's for the layer's parameters. Autograd finds none for
parameters: its sum over the batch would be thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn
from torch.nn.grad import conv2d_input

from phoenix_secure.privacy.convolution_gradients import weight_gradients
from phoenix_secure.privacy.sample_gradients import (
    Instantiated,
    Recomputed,
    SampleGradient,
    Space,
)

__all__ = ["LayerRule", "Task", "rule_for"]

Saved = tuple[torch.Tensor, ...]
Found = dict[str, SampleGradient]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a backward pass asks of a layer.

    num_images    n; the N rows are those of the first image, then those of the second
    needs_input   whether anything wants the input's gradient
    keep          whether gradients for weights stay in memory until they are clipped
    space         where they may be put
    """

    num_images: int
    needs_input: bool
    keep: bool
    space: Space | None = None


class LayerRule(Protocol):
    """One kind of layer."""

    def forward(self, layer: Any, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        """The layer's output (N, ...), and what ``backward`` needs of the pass."""

    def backward(
        self, layer: Any, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        """The input's gradient, and each image's by parameter, from the output's."""


class _Convolution:
    """``nn.Conv2d`` with zeros around its input."""

    def forward(self, layer: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        # One layout, whatever came: diffusers' upsampling takes another for 64 rows and more, and
        # another kernel gives other bits.
        x = x.contiguous(memory_format=_format_of(layer.weight))
        return nn.Conv2d.forward(layer, x), (x,)

    def backward(
        self, layer: nn.Conv2d, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        (x,) = saved
        into = None
        if task.needs_input:
            into = conv2d_input(  # type: ignore[no-untyped-call]
                x.shape,
                layer.weight,
                gradient,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
            )

        def weights() -> SampleGradient:
            return weight_gradients(
                layer, x, gradient, num_images=task.num_images, space=task.space
            )

        found: Found = {"weight": weights() if task.keep else Recomputed(weights)}
        if layer.bias is not None:
            found["bias"] = _by_image(gradient.sum((2, 3)), task)
        return into, found


class _Linear:
    """``nn.Linear`` on vectors (N, in) or on tokens (N, ..., in)."""

    def forward(self, layer: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        return nn.Linear.forward(layer, x), (x,)

    def backward(
        self, layer: nn.Linear, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        (x,) = saved
        into = gradient @ layer.weight if task.needs_input else None
        # Tokens of an image, its rows one after the other: (n, tokens, features).
        left = gradient.reshape(task.num_images, -1, layer.out_features)
        right = x.reshape(task.num_images, -1, layer.in_features)

        def weights() -> SampleGradient:
            found = (task.space or Space()).like(x, task.num_images, *layer.weight.shape)
            if left.shape[1] == 1:  # an outer product, for which bmm is slow
                return Instantiated(torch.mul(left.transpose(1, 2), right, out=found))
            return Instantiated(torch.bmm(left.transpose(1, 2), right, out=found))

        found: Found = {"weight": weights() if task.keep else Recomputed(weights)}
        if layer.bias is not None:
            found["bias"] = Instantiated(left.sum(1))
        return into, found


class _GroupNorm:
    """``nn.GroupNorm``: N images of C channels are one image of N C channels, whose gradients for
    scale and shift are then the rows' own. They come with the input's, in one pass."""

    def forward(self, layer: nn.GroupNorm, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        x = x.contiguous()
        output, mean, deviation = torch.native_group_norm(
            x,
            layer.weight,
            layer.bias,
            len(x),
            layer.num_channels,
            x[0, 0].numel(),
            layer.num_groups,
            layer.eps,
        )
        return output, (x, mean, deviation)

    def backward(
        self, layer: nn.GroupNorm, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        x, mean, deviation = saved
        num, size = len(x), x[0, 0].numel()
        into, scale, shift = torch.ops.aten.native_group_norm_backward(
            gradient.reshape(1, -1, size),
            x.view(1, -1, size),
            mean.view(1, -1),
            deviation.view(1, -1),
            layer.weight.repeat(num),
            1,
            num * layer.num_channels,
            size,
            num * layer.num_groups,
            [True, True, True],
        )
        shape = (num, layer.num_channels)
        return into.view(x.shape), {
            "weight": _by_image(scale.view(shape), task),
            "bias": _by_image(shift.view(shape), task),
        }


class _Embedding:
    """``nn.Embedding`` of one index a row."""

    def forward(self, layer: nn.Embedding, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        return nn.Embedding.forward(layer, x), (x,)

    def backward(
        self, layer: nn.Embedding, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        (x,) = saved
        num = task.num_images
        places = x.reshape(num, -1) + layer.num_embeddings * torch.arange(
            num, device=x.device
        ).unsqueeze(1)
        table = gradient.new_zeros(num * layer.num_embeddings, layer.embedding_dim)
        table.index_add_(0, places.flatten(), gradient.reshape(-1, layer.embedding_dim))
        return None, {"weight": Instantiated(table.view(num, *layer.weight.shape))}


class _OpacusLayer:
    """A layer for which Opacus has a sampler; autograd finds the input's gradient."""

    def forward(self, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        return type(layer).forward(layer, x), (x,)

    def backward(
        self, layer: nn.Module, gradient: torch.Tensor, saved: Saved, task: Task
    ) -> tuple[torch.Tensor | None, Found]:
        (x,) = saved
        into = None
        if task.needs_input:
            with torch.enable_grad():
                again = x.detach().requires_grad_()
                (into,) = torch.autograd.grad(self.forward(layer, again)[0], again, gradient)
        # Opacus' unfolding reads what is not contiguous wrongly (1.6.0).
        sampler = GradSampleModule.GRAD_SAMPLERS[type(layer)]
        found = sampler(layer, [x.contiguous()], gradient.contiguous())
        names = {parameter: name for name, parameter in layer.named_parameters()}
        return into, {names[parameter]: _by_image(each, task) for parameter, each in found.items()}


def _format_of(weight: torch.Tensor) -> torch.memory_format:
    return torch.contiguous_format if weight.is_contiguous() else torch.channels_last


def _by_image(rows: torch.Tensor, task: Task) -> Instantiated:
    """Gradients of rows (N, ...) added by image."""
    if len(rows) == task.num_images:
        return Instantiated(rows)
    return Instantiated(rows.view(task.num_images, -1, *rows.shape[1:]).sum(1))


def rule_for(layer: nn.Module) -> LayerRule | None:
    """The rule of a layer with parameters of its own; None where there is none.

    Layers are known by their exact type: a subclass may compute anything.
    """
    kind = type(layer)
    if kind is nn.Conv2d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return _Convolution() if plain else None
    if kind is nn.Linear:
        return _Linear()
    if kind is nn.GroupNorm:
        return _GroupNorm()
    if kind is nn.Embedding:
        plain = layer.padding_idx is None and layer.max_norm is None
        return _Embedding() if plain and not layer.scale_grad_by_freq else None
    if kind is nn.RMSNorm or (kind is nn.LayerNorm and layer.bias is not None):
        return _OpacusLayer()
    return None
