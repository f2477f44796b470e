"""An image's gradient has the same bits in any company, at any place, in every mode."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from phoenix_secure.presets import MODEL_PRESETS
from phoenix_secure.privacy.chunks import (
    ImageRows,
    chunk_counts,
    chunk_sizes,
    padded,
    sizes_of_equal_bits,
)
from phoenix_secure.privacy.per_image import Gradients, make_gradients
from phoenix_secure.privacy.sample_gradients import Instantiated, SampleGradient, squared_norms
from privacy_networks import network_of, rows_of

KINDS = ("layers", "vmap")
BATCHES = ((5, 1), (24, 1), (16, 3))  # physical batch, rows of each image
# Each takes seconds: a few of every kind stay in the quick suite.
QUICK = {
    ("tiny-s2d", "layers", (5, 1)),
    ("tiny-s2d", "layers", (24, 1)),
    ("tiny-s2d", "vmap", (5, 1)),
    ("tiny", "layers", (16, 3)),
}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in itertools.product(MODEL_PRESETS, KINDS, BATCHES)
]


def as_trained(
    preset: str, *, num_images: int, num_rows: int, conditional: bool
) -> tuple[nn.Module, ImageRows]:
    """The network and its rows in float32, as training has them."""
    network = network_of(preset, conditional=conditional)
    rows = rows_of(network, num_images=num_images, num_rows=num_rows, conditional=conditional)
    return network.float(), rows.each(lambda t: t.float() if t.is_floating_point() else t)


def clipped(
    network: nn.Module, kind: str, rows: ImageRows, *, images: list[int], physical_batch: int
) -> list[bytes]:
    """What each of ``images`` alone adds to the sum when all come together, as bytes.

    The others are given a gradient of zero (weight 0), so that the sum is the image's own.
    """
    for parameter in network.parameters():
        parameter.summed_grad = None
    gradients = make_gradients(kind, network, physical_batch=physical_batch)
    found = []
    for i in images:
        weight = torch.zeros_like(rows.weight)
        weight[i] = rows.weight[i]
        alone = ImageRows(
            inputs=rows.inputs,
            times=rows.times,
            target=rows.target,
            weight=weight,
            labels=rows.labels,
        )
        gradients.accumulate(alone, clip_norm=0.01)
        parts = []
        for parameter in network.parameters():
            parts.append(parameter.summed_grad.numpy().tobytes())
            parameter.summed_grad = None
        found.append(b"".join(parts))
    return found


def instantiated(gradients: Gradients, rows: ImageRows) -> dict[str, torch.Tensor]:
    """Every image's gradient by parameter, and its squared norm as clipping sees it."""
    samples, _ = gradients._samples(rows)
    found = {name: sample.instantiated().clone() for name, sample in samples.items()}
    return {**found, "squared norm": squared_norms(samples)}


@pytest.mark.parametrize(
    ("physical_batch", "sizes"),
    [
        (1, (1,)),
        (15, (15,)),
        (16, (16,)),
        (20, (16, 20)),
        (32, (16, 20, 24, 28, 32)),
        (96, tuple(range(16, 97, 8))),
        (97, (16, 32, 48, 64, 80, 96, 97)),
    ],
)
def test_sizes_are_few_and_begin_where_kernels_agree(
    physical_batch: int, sizes: tuple[int, ...]
) -> None:
    assert chunk_sizes(physical_batch) == sizes


def test_sizes_stay_few_and_reach_the_batch() -> None:
    for physical_batch in range(1, 3000, 7):
        sizes = chunk_sizes(physical_batch)
        assert len(sizes) <= 13
        assert sizes == tuple(sorted(set(sizes)))
        assert sizes[-1] == physical_batch
    with pytest.raises(ValueError, match="physical_batch"):
        chunk_sizes(0)


@pytest.mark.parametrize("sizes", [chunk_sizes(32), chunk_sizes(97), (16, 20), (5,), (1,)])
def test_no_other_two_last_chunks_need_fewer_blank_images(sizes: tuple[int, ...]) -> None:
    def filled(count: int) -> int:
        return min(size for size in sizes if size >= count)

    for num in range(1, 5 * sizes[-1]):
        counts = chunk_counts(num, sizes)
        assert sum(counts) == num
        assert 1 <= min(counts) <= max(counts) <= sizes[-1]
        assert set(counts[:-2]) <= {sizes[-1]}
        rest = sum(counts[-2:])
        ways = [
            filled(a) + filled(rest - a) for a in range(1, rest) if max(a, rest - a) <= sizes[-1]
        ]
        if rest <= sizes[-1]:
            ways.append(filled(rest))
        assert sum(map(filled, counts[-2:])) == min(ways)
    # By steps of four a batch of 64 on average needs one and a half.
    blanks = [sum(map(filled, chunk_counts(n, sizes))) - n for n in range(48, 80)]
    assert sizes != chunk_sizes(32) or np.mean(blanks) == 1.5


def test_chunks_are_filled_with_blank_images_of_weight_zero() -> None:
    _, rows = as_trained("tiny", num_images=5, num_rows=2, conditional=True)
    full = padded(rows, (4, 8))
    assert full.num_images == 8
    for name in ("inputs", "times", "target", "weight", "labels"):
        assert torch.equal(getattr(full, name)[:5], getattr(rows, name))
        assert not getattr(full, name)[5:].any()
    with pytest.raises(ValueError, match="at most 4 images"):
        padded(rows, (2, 4))


@pytest.mark.parametrize(("preset", "kind", "batch"), CASES)
def test_every_size_gives_equal_bits_at_every_place(
    preset: str, kind: str, batch: tuple[int, int]
) -> None:
    """Every parameter's gradient of every image, before clipping."""
    physical_batch, num_rows = batch
    network, rows = as_trained(
        preset, num_images=physical_batch, num_rows=num_rows, conditional=True
    )
    gradients = make_gradients(kind, network, physical_batch=physical_batch)
    sizes = gradients.sizes
    gradients.verify(rows)
    assert gradients.sizes == sizes  # this machine's libraries are worth the speed
    expected = instantiated(gradients, rows)
    for size in {sizes[0], sizes[-1]}:
        for shift in (1, size // 2):
            order = torch.arange(size).roll(shift)
            found = instantiated(gradients, rows.each(lambda t, order=order: t[order]))
            for name, value in expected.items():
                assert torch.equal(found[name], value[order]), (name, size, shift)


@pytest.mark.parametrize(
    ("preset", "image_size", "num_rows"),
    [
        ("tiny-s2d", 8, 1),
        ("tiny-s2d", 28, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("tiny", 28, 1), ("small", 32, 1), ("tiny", 28, 3), ("base", 32, 1)]
        ),
    ],
)
def test_an_image_has_equal_bits_at_every_single_place(
    preset: str, image_size: int, num_rows: int
) -> None:
    """The same image everywhere, then in the last place alone beside others.

    Kernels are chosen by shapes: larger images are those of training.
    """
    network = network_of(preset, conditional=True, image_size=image_size)
    rows = rows_of(network, num_images=20, num_rows=num_rows, conditional=True)
    network, rows = network.float(), rows.each(lambda t: t.float() if t.is_floating_point() else t)
    gradients = make_gradients("layers", network, physical_batch=20)
    alike = instantiated(gradients, rows.each(lambda t: t[-1:].repeat(20, *([1] * (t.dim() - 1)))))
    for name, value in alike.items():
        assert all(torch.equal(value[place], value[0]) for place in range(20)), name
    for name, value in instantiated(gradients, rows).items():
        assert torch.equal(value[-1], alike[name][0]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_rows", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_an_image_adds_has_the_same_bits_in_any_company(kind: str, num_rows: int) -> None:
    """Of 17 images: in chunks of one size and of two, in reverse, and alone."""
    network, rows = as_trained("tiny-s2d", num_images=17, num_rows=num_rows, conditional=True)
    together = clipped(network, kind, rows, images=[0, 16], physical_batch=24)
    assert len(set(together)) == 2
    backwards = rows.each(lambda t: t.flip(0))
    assert clipped(network, kind, backwards, images=[16, 0], physical_batch=24) == together
    assert clipped(network, kind, rows, images=[0, 16], physical_batch=16) == together
    alone = rows.each(lambda t: t[:1])
    assert clipped(network, kind, alone, images=[0], physical_batch=24) == together[:1]


def shape_dependent(rows: ImageRows) -> tuple[dict[str, SampleGradient], torch.Tensor]:
    """A library that takes another kernel for less than 24 images."""
    found = rows.inputs.flatten(1).clone()
    return {"w": Instantiated(found * (1 + 1e-7 if len(found) < 24 else 1))}, found.sum(1)


def place_dependent(rows: ImageRows) -> tuple[dict[str, SampleGradient], torch.Tensor]:
    """A library whose last image is computed by the kernel of the remainder."""
    found = rows.inputs.flatten(1).clone()
    found[-1] *= 1 + 1e-6
    return {"w": Instantiated(found)}, found.sum(1)


def company_dependent(rows: ImageRows) -> tuple[dict[str, SampleGradient], torch.Tensor]:
    """A network that scales by the largest pixel of its batch, wherever that is."""
    found = rows.inputs.flatten(1)
    return {"w": Instantiated(found / found.abs().max())}, found.sum(1)


def test_sizes_that_give_other_bits_are_given_up() -> None:
    _, rows = as_trained("tiny", num_images=32, num_rows=1, conditional=False)
    assert sizes_of_equal_bits(shape_dependent, rows, (24, 32)) == (24, 32)
    assert sizes_of_equal_bits(shape_dependent, rows, (16, 24, 32)) == (24, 32)
    assert sizes_of_equal_bits(place_dependent, rows, (16, 24, 32)) == (1,)
    assert sizes_of_equal_bits(company_dependent, rows, (32,)) == (1,)
    one = rows.each(lambda t: t[:1])
    assert sizes_of_equal_bits(company_dependent, one, (1,)) == (1,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_cuda_gives_equal_bits_in_the_sizes_that_a_look_at_the_start_keeps(kind: str) -> None:
    """Other libraries, other kernels: whichever sizes they agree in, down to a single image.

    Marked gpu: no CPU shows what cuDNN and cuBLAS choose, nor kernels that add in no fixed order.
    """
    network, rows = as_trained("tiny-s2d", num_images=24, num_rows=1, conditional=True)
    network, rows = network.cuda(), rows.each(lambda t: t.cuda())
    gradients = make_gradients(kind, network, physical_batch=24)
    gradients.verify(rows)
    sums = []
    for num in (1, 7, 17, 24):
        weight = torch.zeros_like(rows.weight)
        weight[0] = rows.weight[0]
        alone = dataclasses.replace(rows, weight=weight).each(lambda t, n=num: t[:n])
        gradients.accumulate(alone, clip_norm=0.01)
        parts = [p.summed_grad.cpu().numpy().tobytes() for p in network.parameters()]
        sums.append(b"".join(parts))
        for parameter in network.parameters():
            parameter.summed_grad = None
    assert len(set(sums)) == 1
