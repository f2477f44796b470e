"""Gradients of single images, and the clipped sum over a batch.

One image enters a step with ``R`` rows: several timesteps and noises (noise multiplicity), several
augmented copies. Its gradient is that of the *mean loss over its rows*, one vector per image, and
only then clipped. Flattening the rows into the batch instead lets one image contribute R times
what is accounted (measured: 2.8 clip norms at R = 4).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from phoenix_secure.errors import ConfigError

__all__ = ["Gradients", "ImageRows", "check_network", "make_gradients"]

Kind = Literal["vmap", "hooks", "ghost"]

# Images need no gradient; Opacus' hooks ask for that of outputs alone, which is what they should.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRows:
    """A regression problem for each row of each image: ``weight * mean((network - target)^2)``.

    Shape:      n images of R rows: inputs and target (n, R, C, H, W), times (n, R), weight (n, R),
                labels (n, R) or None.
    """

    inputs: torch.Tensor
    times: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor | None

    @property
    def num_images(self) -> int:
        return len(self.inputs)

    @property
    def num_rows(self) -> int:
        """R, rows of one image."""
        return self.inputs.shape[1]


class Gradients(Protocol):
    """Adds clipped gradients of images into ``parameter.summed_grad``, as Opacus keeps it."""

    def accumulate(self, rows: ImageRows, *, clip_norm: float) -> torch.Tensor:
        """Add each image's clipped gradient; the images' losses (n,), which are not private.

        Guarantee:  adding or removing one image moves the sum by at most clip_norm in L2 norm
                    (but for float32 rounding). An image whose gradient is not finite adds nothing,
                    so that it can neither break the bound nor the model.
        """


def check_network(network: nn.Module) -> None:
    """Refuse layers whose output for one image depends on the others.

    Raises:     ConfigError naming the layer: its per-image gradients would mean nothing.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"layer {name} is {type(module).__name__}, which mixes the images of a batch: "
                "differential privacy per image needs GroupNorm (model.norm_groups)"
            )


def make_gradients(kind: Kind, network: nn.Module) -> tuple[Gradients, nn.Module]:
    """The way ``kind`` for ``network``; also the module whose parameters it fills.

    Raises:     ConfigError for a network that cannot be trained so.
    """
    check_network(network)
    if kind == "vmap":
        return _VmapGradients(network), network
    return _HookedGradients(network, ghost=kind == "ghost"), network


class _VmapGradients:
    """torch.func: exact for every layer and memory format."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        # Fused attention has no batching rule on the CPU and would run image by image.
        for module in network.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor())
        self._gradients = vmap(grad_and_value(self._loss), in_dims=(None, 0, 0, 0, 0, 0))
        self._unlabelled = vmap(grad_and_value(self._loss), in_dims=(None, 0, 0, 0, 0, None))

    def accumulate(self, rows: ImageRows, *, clip_norm: float) -> torch.Tensor:
        parameters = dict(self._network.named_parameters())
        frozen = {name: parameter.detach() for name, parameter in parameters.items()}
        function = self._unlabelled if rows.labels is None else self._gradients
        samples, losses = function(
            frozen, rows.inputs, rows.times, rows.target, rows.weight, rows.labels
        )
        add_clipped(parameters, samples, clip_norm=clip_norm)
        return torch.as_tensor(losses)

    def _loss(
        self,
        parameters: Mapping[str, torch.Tensor],
        inputs: torch.Tensor,
        times: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor | None,
    ) -> torch.Tensor:
        output = functional_call(
            self._network, dict(parameters), (inputs, times), {"class_labels": labels}
        ).sample
        return _mean_loss(output, target, weight)


def add_clipped(
    parameters: Mapping[str, nn.Parameter],
    samples: Mapping[str, torch.Tensor],
    *,
    clip_norm: float,
) -> None:
    """Clip each image's gradient over all parameters together and add the sum to ``summed_grad``.

    Shape:      samples: name -> (n, *parameter.shape), for every parameter.
    """
    missing = set(parameters) - set(samples)
    if missing:
        raise ConfigError(f"parameter {min(missing)} has no gradient per image")
    squares = torch.stack([s.flatten(1).square().sum(1) for s in samples.values()]).sum(0)
    factor = clip_factor(squares.sqrt(), clip_norm=clip_norm)
    finite = factor > 0
    for name, parameter in parameters.items():
        flat = samples[name].flatten(1)
        if not bool(finite.all()):
            flat = torch.where(finite[:, None], flat, 0.0)
        total = (factor @ flat).view_as(parameter)
        summed: torch.Tensor | None = parameter.summed_grad  # type: ignore[attr-defined]
        parameter.summed_grad = total if summed is None else summed + total  # type: ignore[attr-defined]


def clip_factor(norms: torch.Tensor, *, clip_norm: float) -> torch.Tensor:
    """``min(1, C / norm)`` of each image, (n,); 0 for a norm that is not finite.

    The bound aimed at is a hundred-thousandth below C, so that rounding in float32, of the norm
    over millions of parameters too, cannot lift a clipped gradient above C.
    """
    factor = (clip_norm * (1 - 1e-5) / norms).clamp(max=1.0)
    return torch.where(norms.isfinite(), factor, torch.zeros_like(factor))


def _mean_loss(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (weight * (output - target).square().flatten(1).mean(dim=1)).mean()


def _conv_samples(
    layer: nn.Conv2d, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Opacus' sampler on contiguous tensors: its unfolding reads any others wrongly (1.6.0)."""
    found: dict[nn.Parameter, torch.Tensor] = compute_conv_grad_sample(
        layer, [activation.contiguous() for activation in activations], backprops.contiguous()
    )
    return found


class _ContiguousModule(GradSampleModule):  # type: ignore[misc]
    GRAD_SAMPLERS: dict[Any, Any] = {  # noqa: RUF012 - Opacus' own form
        **GradSampleModule.GRAD_SAMPLERS,
        nn.Conv2d: _conv_samples,
    }


class _ContiguousGhostModule(GradSampleModuleFastGradientClipping):  # type: ignore[misc]
    GRAD_SAMPLERS: dict[Any, Any] = {  # noqa: RUF012
        **GradSampleModuleFastGradientClipping.GRAD_SAMPLERS,
        nn.Conv2d: _conv_samples,
    }


class _HookedGradients:
    """Opacus' hooks; with ``ghost``, its norms first and then one weighted backward pass."""

    def __init__(self, network: nn.Module, *, ghost: bool) -> None:
        self._network = network
        self._is_ghost = ghost
        kind = _ContiguousGhostModule if ghost else _ContiguousModule
        self._module = kind(network, batch_first=True, loss_reduction="sum", strict=False)

    def accumulate(self, rows: ImageRows, *, clip_norm: float) -> torch.Tensor:
        if self._is_ghost and rows.num_rows > 1:
            raise ConfigError(
                "privacy.gradients = ghost knows norms of rows and not of images: set "
                "privacy.noise_draws and privacy.augmentations to 1, or gradients to vmap"
            )
        losses = self._losses(rows)
        if self._is_ghost:
            self._weighted_pass(losses, clip_norm=clip_norm)
        else:
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self._add(rows, clip_norm=clip_norm)
        return losses.detach()

    def _losses(self, rows: ImageRows) -> torch.Tensor:
        """The mean loss of each image (n,), rows flattened into the network's batch."""
        flat: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor.flatten(0, 1)  # noqa: E731
        labels = None if rows.labels is None else flat(rows.labels)
        output = self._module(flat(rows.inputs), flat(rows.times), class_labels=labels).sample
        error = (output - flat(rows.target)).square().flatten(1).mean(dim=1)
        weighted: torch.Tensor = flat(rows.weight) * error
        return weighted.view(rows.num_images, rows.num_rows).mean(dim=1)

    def _add(self, rows: ImageRows, *, clip_norm: float) -> None:
        parameters = dict(self._network.named_parameters())
        samples = {}
        for name, parameter in parameters.items():
            sample = getattr(parameter, "grad_sample", None)
            if sample is None:
                continue
            # The gradient of an image is the sum over its rows of the gradients of its mean loss.
            by_image = sample.view(rows.num_images, rows.num_rows, *parameter.shape)
            samples[name] = by_image.sum(dim=1)
            parameter.grad_sample = None  # type: ignore[attr-defined]
            parameter.grad = None
        add_clipped(parameters, samples, clip_norm=clip_norm)

    def _weighted_pass(self, losses: torch.Tensor, *, clip_norm: float) -> None:
        losses.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        factor = clip_factor(self._module.get_norm_sample(), clip_norm=clip_norm)
        for parameter in self._network.parameters():
            parameter.grad = None
        self._module.disable_hooks()
        try:
            torch.where(factor > 0, factor * losses, 0.0).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            self._module.enable_hooks()
        for parameter in self._network.parameters():
            total = parameter.grad
            summed = parameter.summed_grad  # type: ignore[attr-defined]
            if total is not None:
                parameter.summed_grad = total if summed is None else summed + total  # type: ignore[attr-defined]
            parameter.grad = None
