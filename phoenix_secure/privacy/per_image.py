"""Gradients of single images, and the clipped sum over a batch.

One image enters a step with ``R`` rows: several timesteps and noises (noise multiplicity), several
augmented copies. Its gradient is that of the *mean loss over its rows*, one vector per image, and
only then clipped. Flattening the rows into the batch instead lets one image contribute R times
what is accounted (measured: 2.8 clip norms at R = 4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import nn

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.chunks import (
    FindGradients,
    ImageRows,
    chunk_counts,
    chunk_sizes,
    padded,
    sizes_of_equal_bits,
)
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.layer_gradients import LayerGradients, unknown_layer
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.privacy.sample_gradients import (
    SampleGradient,
    squared_norms,
    weighted_sums,
)
from phoenix_secure.privacy.vmap_gradients import VmapGradients

__all__ = ["Gradients", "ImageRows", "check_network", "make_gradients"]

Kind = Literal["layers", "vmap", "hooks", "ghost"]

_log = logging.getLogger(__name__)
# Squares of float32 vanish below 1e-19: all of a network's together below 1e-14.
_LEAST_CLIP_NORM = 1e-9


class Gradients:
    """Adds clipped gradients of images into ``parameter.summed_grad`` (float64).

    sizes      numbers of images that a chunk is filled up to, ascending
    """

    def __init__(
        self, network: nn.Module, samples: FindGradients, *, sizes: tuple[int, ...]
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
            flat = torch.cat([samples[name].instantiated().flatten(1) for name in names], 1)
            norms = squared_norms(samples).sqrt()
            factors = clip_factor(norms, clip_norm=clip_norm).div_(-clip_norm)
            # One image at a time: its numbers in float64 stay in the cache.
            for gradient, factor in zip(flat.cpu().numpy(), factors.tolist()[:num], strict=False):
                with np.errstate(invalid="ignore"):  # zero times infinity is none: it enters zeros
                    total += grid.round(gradient[None].astype(np.float64) * factor)[0]

    def begin(self) -> None:
        """The network has new weights; nothing is summed yet."""

    def complete(self) -> torch.Tensor:
        """Have the whole step in the sums: the losses (n,) that ``accumulate`` did not answer.

        For gradients that are found elsewhere, too; here all are found at once.
        """
        return torch.zeros(0)

    def complete_rounded(self, total: np.ndarray) -> None:
        """As ``complete``, for what ``add_rounded`` added up."""

    def _vectors(
        self, rows: ImageRows, persons: PersonMeans | None, losses: list[torch.Tensor]
    ) -> Iterator[tuple[Mapping[str, SampleGradient], int]]:
        """Gradients of filled-up chunks, of which the first so many count: of images, or of the
        persons whose last image is in the chunk. The images' losses go to ``losses``."""
        start = 0
        for count in chunk_counts(rows.num_images, self.sizes):
            chunk = rows.each(lambda t, a=start, b=start + count: t[a:b])  # type: ignore[misc]
            samples, found = self._samples(padded(chunk, self.sizes))
            losses.append(found[:count].detach())
            if persons is None:
                yield samples, count
            else:
                whole = {name: sample.in_memory() for name, sample in samples.items()}
                values = {name: sample.values for name, sample in whole.items()}
                means, num_closed = persons.take(values, count)
                yield {name: whole[name].with_values(m) for name, m in means.items()}, num_closed
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

    A network with a layer that has no rule takes ``vmap``. ``hooks`` and ``ghost`` of old settings
    are read as ``layers``.

    Raises:     ConfigError for a network that cannot be trained so.
    """
    check_network(network)
    if kind in ("hooks", "ghost"):
        _log.warning("privacy.gradients = %s is no more: layers is used in its place", kind)
    sizes = chunk_sizes(physical_batch)
    if kind == "vmap":
        return Gradients(network, VmapGradients(network), sizes=sizes)
    unknown = unknown_layer(network)
    if unknown is not None:
        _log.info("layer %s has no rule for gradients of single images: vmap is used", unknown)
        return Gradients(network, VmapGradients(network), sizes=sizes)
    by_layer = LayerGradients(network, physical_batch=physical_batch)
    return Gradients(network, by_layer, sizes=sizes)


def add_clipped(
    parameters: Mapping[str, nn.Parameter],
    samples: Mapping[str, SampleGradient],
    *,
    clip_norm: float,
    num_images: int,
) -> None:
    """Clip each image's gradient over all parameters together and add the sum to ``summed_grad``.

    The first ``num_images`` count; those behind are blank. Every call does the same work, whatever
    gradients are not finite.
    """
    _require_all(parameters, samples)
    factor = clip_factor(squared_norms(samples).sqrt(), clip_norm=clip_norm)
    factor[num_images:] = 0
    totals = weighted_sums(samples, factor)
    for name, parameter in parameters.items():
        total = totals[name]
        summed: torch.Tensor | None = parameter.summed_grad  # type: ignore[attr-defined]
        parameter.summed_grad = total if summed is None else summed.add_(total)  # type: ignore[attr-defined]


def _require_all(names: Iterable[str], samples: Mapping[str, SampleGradient]) -> None:
    missing = set(names) - set(samples)
    if missing:
        raise ConfigError(f"parameter {min(missing)} has no gradient per image")


def clip_factor(norms: torch.Tensor, *, clip_norm: float) -> torch.Tensor:
    """``min(1, C / norm)`` of each image, (n,); 0 for a norm that is not finite.

    The bound aimed at is a hundred-thousandth below C, so that rounding of the norm in float32,
    over millions of parameters too, cannot lift a clipped gradient above C.
    """
    if not clip_norm >= _LEAST_CLIP_NORM:
        raise ValueError(f"expected clip_norm >= {_LEAST_CLIP_NORM:g}, got {clip_norm}")
    factor = (clip_norm * (1 - 1e-5) / norms).clamp(max=1.0)
    return torch.where(norms.isfinite(), factor, torch.zeros_like(factor))
