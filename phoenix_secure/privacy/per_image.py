"""Gradients of single images, and the clipped sum over a batch.

One image enters a step with ``R`` rows: several timesteps and noises (noise multiplicity), several
augmented copies. Its gradient is that of the *mean loss over its rows*, one vector per image, and
only then clipped. Flattening the rows into the batch instead lets one image contribute R times
what is accounted (measured: 2.8 clip norms at R = 4).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.chunks import (
    ImageRows,
    SampleGradients,
    chunk_counts,
    chunk_sizes,
    padded,
    sizes_of_equal_bits,
)
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.person_means import PersonMeans

__all__ = ["Gradients", "ImageRows", "check_network", "make_gradients"]

Kind = Literal["vmap", "hooks", "ghost"]

_log = logging.getLogger(__name__)
# Numbers in float64 at a time: on the CPU as many as its cache holds.
_CACHED, _ON_DEVICE = 1 << 16, 1 << 26
# Squares of float32 vanish below 1e-19: all of a network's together below 1e-14.
_LEAST_CLIP_NORM = 1e-9

# Images need no gradient; Opacus' hooks ask for that of outputs alone, which is what they should.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


class Gradients:
    """Adds clipped gradients of images into ``parameter.summed_grad`` (float64).

    sizes      numbers of images that a chunk is filled up to, ascending
    """

    def __init__(
        self, network: nn.Module, samples: SampleGradients, *, sizes: tuple[int, ...]
    ) -> None:
        self._network = network
        self._samples = samples
        self.sizes = sizes

    def verify(self, rows: ImageRows) -> None:
        """Keep to the sizes in which an image has the same bits in any company on this machine.

        ``rows``: any images, as many as the largest size.
        """
        found = sizes_of_equal_bits(self._samples, rows, self.sizes)
        if found == (1,) != self.sizes:
            _log.warning(
                "gradients depend on an image's place in a chunk on this machine: images are "
                "differentiated one by one, which is exact and slow"
            )
        self.sizes = found

    def accumulate(
        self, rows: ImageRows, *, clip_norm: float, persons: PersonMeans | None = None
    ) -> torch.Tensor:
        """Add each image's clipped gradient; the images' losses (n,), which are not private.

        Any number of images, in chunks that are filled up. With ``persons`` the means over their
        images are clipped and added in place of the images' own gradients, and what follows holds
        for all images of a person.

        Guarantee:  adding or removing one image moves the sum of a step by at most
                    clip_norm (1 + 1e-5) in L2 norm, for up to 100,000 images: an image's clipped
                    gradient has the same bits in any company (where ``verify`` saw it), and the
                    sum in float64 is off by n^2 2^-53 clip norms at most. An image whose gradient
                    or its squared norm is not finite in float32 adds nothing, so that it can
                    neither break the bound nor the model, nor be told by what it breaks.
        Raises:     ValueError for clip_norm below 1e-9, where float32 cannot bound norms.
        """
        parameters = dict(self._network.named_parameters())
        losses: list[torch.Tensor] = []
        for samples, num in self._vectors(rows, persons, losses):
            add_clipped(parameters, samples, clip_norm=clip_norm, num_images=num)
        return torch.cat(losses) if losses else torch.zeros(0)

    def add_rounded(
        self,
        rows: ImageRows,
        *,
        clip_norm: float,
        grid: IntegerGrid,
        total: np.ndarray,
        persons: PersonMeans | None = None,
    ) -> None:
        """Add minus each image's clipped gradient to ``total`` (d,) int64, in steps of ``grid``:
        one unit of the grid's vectors is ``clip_norm``. With ``persons`` as in ``accumulate``.

        Guarantee:  adding or removing one image moves ``total`` by a vector of squared norm at most
                    ``grid.steps**2``, for any number of images: whole numbers have no order. An
                    image whose gradient or its squared norm is not finite adds nothing.
        Raises:     as ``accumulate``.
        """
        names = [name for name, _ in self._network.named_parameters()]
        for samples, num in self._vectors(rows, persons, []):
            _require_all(names, samples)
            flat = torch.cat([samples[name].flatten(1) for name in names], 1)
            factors = clip_factor(_norms(samples), clip_norm=clip_norm).div_(-clip_norm)
            # One image at a time: its numbers in float64 stay in the cache.
            for gradient, factor in zip(flat.cpu().numpy(), factors.tolist()[:num], strict=False):
                with np.errstate(invalid="ignore"):  # zero times infinity is none: it enters zeros
                    total += grid.round(gradient[None].astype(np.float64) * factor)[0]

    def _vectors(
        self, rows: ImageRows, persons: PersonMeans | None, losses: list[torch.Tensor]
    ) -> Iterator[tuple[Mapping[str, torch.Tensor], int]]:
        """Gradients of filled-up chunks, of which the first so many count: of images, or of the
        persons whose last image is in the chunk. The images' losses go to ``losses``."""
        start = 0
        for count in chunk_counts(rows.num_images, self.sizes):
            chunk = rows.each(lambda t, a=start, b=start + count: t[a:b])  # type: ignore[misc]
            samples, found = self._samples(padded(chunk, self.sizes))
            losses.append(torch.as_tensor(found)[:count].detach())
            yield (samples, count) if persons is None else persons.take(samples, count)
            start += count


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


def make_gradients(kind: Kind, network: nn.Module, *, physical_batch: int) -> Gradients:
    """The way ``kind`` for ``network``, at most ``physical_batch`` images at once.

    ``ghost`` is read as ``vmap``: its weighted backward pass adds all images inside one float32
    sum, in which one image that overflows turns the others into NaN.

    Raises:     ConfigError for a network that cannot be trained so.
    """
    check_network(network)
    if kind == "ghost":
        _log.warning("privacy.gradients = ghost is no more: vmap is used in its place")
    samples = _HookedGradients(network) if kind == "hooks" else _VmapGradients(network)
    return Gradients(network, samples, sizes=chunk_sizes(physical_batch))


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

    def __call__(self, rows: ImageRows) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
        frozen = {name: p.detach() for name, p in self._network.named_parameters()}
        function = self._unlabelled if rows.labels is None else self._gradients
        samples, losses = function(
            frozen, rows.inputs, rows.times, rows.target, rows.weight, rows.labels
        )
        return samples, torch.as_tensor(losses)

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
    num_images: int,
) -> None:
    """Clip each image's gradient over all parameters together and add the sum to ``summed_grad``.

    The first ``num_images`` count; those behind are blank. Every call does the same work, whatever
    gradients are not finite.

    Shape:      samples: name -> (n, *parameter.shape), for every parameter.
    """
    _require_all(parameters, samples)
    factor = clip_factor(_norms(samples), clip_norm=clip_norm)
    factor[num_images:] = 0
    left_out = (factor == 0).nonzero().flatten()
    on_cpu = factor.device.type == "cpu"
    buffer = factor.new_empty(max(len(factor), _CACHED if on_cpu else _ON_DEVICE))
    columns = len(buffer) // len(factor)
    for name, parameter in parameters.items():
        flat = samples[name].flatten(1)
        total = factor.new_empty(1, flat.shape[1])
        for start in range(0, flat.shape[1], columns):
            piece = flat[:, start : start + columns]
            part = buffer[: piece.numel()].view(piece.shape).copy_(piece)
            part.index_fill_(0, left_out, 0.0)  # zero times infinity is not zero
            torch.mm(factor[None], part, out=total[:, start : start + columns])
        total = total.view_as(parameter)
        summed: torch.Tensor | None = parameter.summed_grad  # type: ignore[attr-defined]
        parameter.summed_grad = total if summed is None else summed + total  # type: ignore[attr-defined]


def _require_all(names: Iterable[str], samples: Mapping[str, torch.Tensor]) -> None:
    missing = set(names) - set(samples)
    if missing:
        raise ConfigError(f"parameter {min(missing)} has no gradient per image")


def _norms(samples: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """L2 norm of each image's gradient over all parameters (n,) float64."""
    squares = [sample.flatten(1).square().sum(1).double() for sample in samples.values()]
    return torch.stack(squares).sum(0).sqrt()


def clip_factor(norms: torch.Tensor, *, clip_norm: float) -> torch.Tensor:
    """``min(1, C / norm)`` of each image, (n,); 0 for a norm that is not finite.

    The bound aimed at is a hundred-thousandth below C, so that rounding of the norm in float32,
    over millions of parameters too, cannot lift a clipped gradient above C.
    """
    if not clip_norm >= _LEAST_CLIP_NORM:
        raise ValueError(f"expected clip_norm >= {_LEAST_CLIP_NORM:g}, got {clip_norm}")
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


class _HookedGradients:
    """Opacus' hooks: rows are flattened into the network's batch and added again by image."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._module = _ContiguousModule(
            network, batch_first=True, loss_reduction="sum", strict=False
        )

    def __call__(self, rows: ImageRows) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
        losses = self._losses(rows)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        samples = {}
        for name, parameter in self._network.named_parameters():
            sample = getattr(parameter, "grad_sample", None)
            if sample is None:
                continue
            # The gradient of an image is the sum over its rows of the gradients of its mean loss.
            by_image = sample.view(rows.num_images, rows.num_rows, *parameter.shape)
            samples[name] = by_image.sum(dim=1)
            parameter.grad_sample = None  # type: ignore[attr-defined]
            parameter.grad = None
        return samples, losses.detach()

    def _losses(self, rows: ImageRows) -> torch.Tensor:
        """The mean loss of each image (n,)."""
        flat: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor.flatten(0, 1)  # noqa: E731
        labels = None if rows.labels is None else flat(rows.labels)
        output = self._module(flat(rows.inputs), flat(rows.times), class_labels=labels).sample
        error = (output - flat(rows.target)).square().flatten(1).mean(dim=1)
        weighted: torch.Tensor = flat(rows.weight) * error
        return weighted.view(rows.num_images, rows.num_rows).mean(dim=1)
