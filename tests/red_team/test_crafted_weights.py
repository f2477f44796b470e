"""Weights that turn the bits of a rounding error into gradients, against the clipped sum.

The server crafts weights whose time embedding is the rounding error of its own product: the second
layer multiplies constants and takes the result away again. The error depends on the kernel, the
kernel on the size of the batch, and later layers make it as large as any signal. So one image more
could change the gradients of all images beside it: n times what is accounted.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.per_image import Gradients, add_clipped, make_gradients
from phoenix_secure.rng import SeedTree

SMALL = ["model.block_channels=[16,16]", "model.attention=[false,false]"]
SMALL += ["model.mid_attention=false", "model.layers_per_block=1"]
CLIP_NORM = 0.5
PAIRS = [(0, 1), (1, 2), (3, 4), (15, 16), (16, 17)]  # where libraries change kernels


def crafted(*, amplification: float) -> nn.Module:
    """A U-Net whose time embedding is a rounding error, ``amplification`` times."""
    config = load_config(None, SMALL)
    network = build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0))
    generator = SeedTree(1).torch()
    first, second = network.time_embedding.linear_1, network.time_embedding.linear_2
    with torch.no_grad():
        # Whatever the timestep, the hidden units are these constants.
        first.weight.zero_()
        first.bias.copy_(torch.randn(first.bias.shape, generator=generator))
        second.weight.copy_(torch.randn(second.weight.shape, generator=generator) * 1000)
        hidden = nn.functional.silu(first.bias)
        # Taken away again, as the kernel of a large batch rounds it.
        product = nn.functional.linear(hidden.expand(32, -1), second.weight)
        second.bias.copy_(-product[0])
        for name, parameter in network.named_parameters():
            if name.endswith("time_emb_proj.weight"):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * amplification)
    for parameter in network.parameters():
        parameter.summed_grad = None
    return network


def rows_of(network: nn.Module, num_images: int, *, num_rows: int) -> ImageRows:
    generator = SeedTree(2).torch()
    shape = (num_images, num_rows)
    size = (*shape, network.config.in_channels, *(2 * [network.config.sample_size]))
    return ImageRows(
        inputs=torch.randn(size, generator=generator),
        times=torch.randint(1000, shape, generator=generator),
        target=torch.randn(size, generator=generator),
        weight=torch.ones(shape),
        labels=None,
    )


def taken_sum(network: nn.Module) -> torch.Tensor:
    """The clipped sum as one float64 vector; it is forgotten."""
    parts = []
    for parameter in network.parameters():
        total = parameter.summed_grad
        parts.append((torch.zeros_like(parameter) if total is None else total).double().flatten())
        parameter.summed_grad = None
    return torch.cat(parts)


def as_they_come(network: nn.Module, gradients: Gradients, rows: ImageRows) -> torch.Tensor:
    """The clipped sum without blank images: the batch has the size that it happens to have."""
    if rows.num_images:
        samples, _ = gradients._samples(rows)
        add_clipped(
            dict(network.named_parameters()),
            samples,
            clip_norm=CLIP_NORM,
            num_images=rows.num_images,
        )
    return taken_sum(network)


def filled_up(network: nn.Module, gradients: Gradients, rows: ImageRows) -> torch.Tensor:
    gradients.accumulate(rows, clip_norm=CLIP_NORM)
    return taken_sum(network)


# Quick: both ways to gradients, with either number of rows and either weights.
QUICK = {("layers", 1, 1e4), ("layers", 2, 1e7)}
WEIGHTS = {1e4: "accepted weights", 1e7: "any weights"}
CASES = [
    pytest.param(
        *case,
        id=f"{case[0]}-{case[1]}-{WEIGHTS[case[2]]}",
        marks=[] if case in QUICK else pytest.mark.slow,
    )
    for case in itertools.product(("layers", "vmap"), (1, 2), WEIGHTS)
]


@pytest.mark.parametrize(("kind", "num_rows", "amplification"), CASES)
def test_one_image_more_moves_the_sum_by_one_clip_norm_whatever_the_weights(
    kind: str, num_rows: int, amplification: float
) -> None:
    network = crafted(amplification=amplification)
    gradients = make_gradients(kind, network, physical_batch=16)
    rows = rows_of(network, 17, num_rows=num_rows)
    moved: dict[str, list[float]] = {"as they come": [], "filled up": []}
    for fewer, more in PAIRS:
        for name, way in (("as they come", as_they_come), ("filled up", filled_up)):
            sums = [way(network, gradients, rows.each(lambda t, n=n: t[:n])) for n in (fewer, more)]
            moved[name].append(float((sums[1] - sums[0]).norm()) / CLIP_NORM)
    for name, found in moved.items():
        figures = " ".join(f"{m:.6f}" for m in found)
        print(f"{kind}, {num_rows} rows, {name}: {figures} clip norms")  # noqa: T201
    assert max(moved["filled up"]) <= 1 + 1e-5
    assert max(moved["as they come"]) > 1.3  # the attack is a real one


@pytest.mark.parametrize("place", [0, 7, 20, 32])
def test_neither_does_an_image_that_comes_before_the_others(place: int) -> None:
    """All later images move up by one place, and the last of a chunk into the next."""
    network = crafted(amplification=1e4)
    gradients = make_gradients("layers", network, physical_batch=32)
    rows = rows_of(network, 33, num_rows=1)
    without = rows.each(lambda t: torch.cat([t[:place], t[place + 1 :]]))
    sums = [filled_up(network, gradients, some) for some in (rows, without)]
    moved = float((sums[0] - sums[1]).norm()) / CLIP_NORM
    print(f"image at place {place}: {moved:.6f} clip norms")  # noqa: T201
    assert moved <= 1 + 1e-5
