"""Samples do not depend on how many workers compute them, to the last bit."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import DiffusionConfig, RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.sampling import _batches, build_pipeline, sample_images
from phoenix_secure.diffusion.schedule import sampling_scheduler
from phoenix_secure.diffusion.split import LARGEST_PIECE
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import load_vector, to_vector
from phoenix_secure.workers import workers

CPU = torch.device("cpu")
NUM = 2 * LARGEST_PIECE + 6
SETTINGS = [
    "model.block_channels=[8,16]",
    "model.attention=[false,true]",
    "diffusion.num_timesteps=50",
    "sampling.num_steps=4",
    f"sampling.batch_size={NUM}",
    "training.batch_size=16",
    "training.local_steps=5",
]


def trained(*overrides: str) -> tuple[RunConfig, Any]:
    """A pipeline whose network has seen real digits (a fresh one answers zero to everything)."""
    config = load_config(None, [*SETTINGS, *overrides])
    digits = load_digits()
    site = SiteImages(images=digits.images[:200], labels=digits.labels[:200])
    unet = build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    start = to_vector(unet)
    delta = trainer.train(start, site, round_number=1, seeds=SeedTree(1)).delta
    load_vector(unet, start + 20 * delta)
    return config, build_pipeline(unet.eval(), config)


def draw(config: RunConfig, pipeline: Any, *, num_images: int = NUM) -> np.ndarray:
    labels = torch.arange(num_images) % 10 if config.model.class_conditional else None
    return sample_images(
        pipeline,
        num_images=num_images,
        sampling=config.sampling,
        generator=torch.Generator().manual_seed(5),
        class_labels=labels,
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        ("sampling.sampler=ddpm",),
        pytest.param(("sampling.sampler=ddim",), marks=pytest.mark.slow),
        ("sampling.sampler=dpm-solver",),
        ("model.class_conditional=true", "sampling.guidance_scale=2"),
        pytest.param(("diffusion.prediction=edm",), marks=pytest.mark.slow),
        pytest.param(("model.space_to_depth=2",), marks=pytest.mark.slow),
    ],
    ids=lambda overrides: overrides[0],
)
def test_samples_are_the_same_on_any_number_of_workers(overrides: tuple[str, ...]) -> None:
    config, pipeline = trained(*overrides)
    alone = draw(config, pipeline)
    assert alone.std() > 0.05
    for number in (1, 2, 4):
        with workers(number):
            assert np.array_equal(draw(config, pipeline), alone)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_samples_are_those_of_the_plain_pipeline(sampler: str) -> None:
    """Noise is drawn by the sampler for the whole batch: pieces of it would draw other images."""
    config, pipeline = trained(f"sampling.sampler={sampler}")
    whole = pipeline(
        batch_size=NUM,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=config.sampling.num_steps,
        output_type="np",
    ).images
    with workers(2):
        split = draw(config, pipeline)
    np.testing.assert_allclose(split, whole.transpose(0, 3, 1, 2) * 2 - 1, atol=1e-4)


def test_network_really_runs_in_pieces_on_several_threads() -> None:
    config, pipeline = trained()
    seen: list[tuple[int, int]] = []

    def watch(module: torch.nn.Module, given: tuple[torch.Tensor, ...], answer: object) -> None:
        seen.append((threading.get_ident(), len(given[0])))

    pipeline.unet.conv_in.register_forward_hook(watch)
    with workers(2):
        draw(config, pipeline)
    assert {size for _, size in seen} == {23, 24}
    assert len({ident for ident, _ in seen}) == 2
    assert "forward" not in pipeline.unet.__dict__
    seen.clear()
    with workers(2):
        draw(config, pipeline, num_images=LARGEST_PIECE)
    assert set(seen) == {(threading.get_ident(), LARGEST_PIECE)}


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        ("sampling.sampler=ddim",),
        ("sampling.sampler=dpm-solver", "model.class_conditional=true"),
    ],
    ids=lambda overrides: overrides[0],
)
@pytest.mark.parametrize("num_images", [70, 5])
def test_samples_are_the_same_in_batches_of_any_size(
    overrides: tuple[str, ...], num_images: int
) -> None:
    config, pipeline = trained(*overrides)
    whole = draw(config, pipeline, num_images=num_images)
    for size in (1, 16, 20, 33, 64, 69, 1000):
        sampling = config.sampling.model_copy(update={"batch_size": size})
        other = config.model_copy(update={"sampling": sampling})
        with workers(2):
            found = draw(other, pipeline, num_images=num_images)
        assert np.array_equal(found, whole), size


@pytest.mark.parametrize("values", [1, 49, 196, 784])
@pytest.mark.parametrize("cuts", [(16,), (32, 48), (16, 32, 48)])
def test_first_noise_is_one_stream_however_it_is_cut(values: int, cuts: tuple[int, ...]) -> None:
    """What the batches of sampling.py rely on, of torch: each has 16 images at least."""
    num_images = 70
    whole = torch.randn(num_images, values, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    parts = [
        torch.randn(high - low, values, generator=generator)
        for low, high in pairwise([0, *cuts, num_images])
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver"])
@given(num_images=st.integers(0, 300), largest=st.integers(1, 200))
def test_batches_cover_all_images_in_sizes_that_round_alike(
    sampler: str, num_images: int, largest: int
) -> None:
    scheduler = sampling_scheduler(DiffusionConfig(), sampler=sampler)
    batches = _batches(scheduler, num_images, largest=largest)
    assert [row for batch in batches for row in range(batch.start, batch.stop)] == list(
        range(num_images)
    )
    for batch in batches:
        size = batch.stop - batch.start
        assert size >= min(16, num_images)
        assert size <= max(largest, 16) + 15
        assert batch.start % 16 == 0


def test_a_sampler_that_draws_noise_on_its_way_keeps_its_batches() -> None:
    scheduler = sampling_scheduler(DiffusionConfig(), sampler="ddpm")
    assert _batches(scheduler, 5, largest=2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
