"""Whoever knows weights and noised updates may search for a small key; there must be none.

A ``torch.Generator`` on the CPU keeps 32 bits of its seed. Timesteps and noises from one would be
found by trying all of them: half an hour on one machine.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import numpy as np
import pytest
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.privacy import chunks, per_image, private_optimizer, randomness
from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training import augmentation, gradient_sums, image_gradients, private
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer

# Draws of torch, numpy and Python that would not come from the cipher.
WEAK = {"Generator", "manual_seed", "rand", "randn", "randint", "rand_like", "randn_like"}
WEAK |= {"bernoulli", "randperm", "multinomial", "normal_", "uniform_", "default_rng", "random"}
WEAK |= {"RandomState", "dropout", "Dropout", "numpy_generator"}
SEEDS = 1 << 16


def sources(key: int) -> list[Randomness]:
    return [SecureRandomness(lambda size: key.to_bytes(size, "big")), SeededRandomness(key)]


@pytest.mark.parametrize("bit", [31, 32, 63, 64, 127, 128, 200, 255])
def test_every_bit_of_the_key_reaches_every_stream(bit: int) -> None:
    key = SeedTree(1).entropy()
    for one, other in zip(sources(key), sources(key ^ (1 << bit)), strict=True):
        for draw in (
            lambda source: source.normal(8).numpy(),
            lambda source: source.integers(8, below=1000).numpy(),
            lambda source: source.included(500, probability=0.5),
        ):
            assert not np.array_equal(draw(one), draw(other))


def test_seeds_of_the_old_kind_that_differ_in_a_high_bit_gave_one_stream() -> None:
    """Why the above is asked for: 63 bits went in, 32 counted."""
    low, high = (torch.Generator().manual_seed(seed) for seed in (7, 7 + (1 << 40)))
    assert torch.equal(torch.randn(8, generator=low), torch.randn(8, generator=high))


def names_used(module: ModuleType) -> set[str]:
    tree = ast.parse(inspect.getsource(module))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }


@pytest.mark.parametrize(
    "module",
    [
        private,
        image_gradients,
        gradient_sums,
        augmentation,
        chunks,
        per_image,
        private_optimizer,
        randomness,
    ],
)
def test_private_training_names_no_other_generator(module: ModuleType) -> None:
    assert not names_used(module) & WEAK


def test_the_search_for_names_finds_them() -> None:
    from phoenix_secure.training import local

    assert names_used(local) & WEAK


class Recorder:
    """The secure source, with everything that it gave away."""

    name = "recorded"

    def __init__(self, source: Randomness) -> None:
        self._source = source
        self.normals: list[torch.Tensor] = []
        self.integers_drawn: list[torch.Tensor] = []
        self.samples: list[np.ndarray] = []

    def normal(self, num: int) -> torch.Tensor:
        self.normals.append(self._source.normal(num))
        return self.normals[-1].clone()

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        self.integers_drawn.append(self._source.integers(num, below=below))
        return self.integers_drawn[-1].clone()

    def included(self, num: int, *, probability: float) -> np.ndarray:
        self.samples.append(self._source.included(num, probability=probability))
        return self.samples[-1]


def one_round(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A private round with conditional labels, augmentation and flips, every draw recorded."""
    config = load_config(
        None,
        [
            "model.block_channels=[8,8]",
            "model.attention=[false,false]",
            "model.class_conditional=true",
            "training.local_steps=2",
            "training.horizontal_flip=true",
            "training.label_dropout=0.5",
            "privacy.unit=record",
            "privacy.noise_multiplier=1",
            "privacy.sampling_rate=0.5",
            "privacy.augmentations=2",
            "privacy.noise_draws=2",
        ],
    )
    images = np.zeros((12, 1, 16, 16), np.uint8)
    site = SiteImages(images=images, labels=np.zeros(12, np.int64))
    weights = to_vector(
        build_unet(config.model, image_size=16, channels=1, num_classes=3, seeds=SeedTree(0))
    )
    made: list[Recorder] = []

    def source() -> Recorder:
        made.append(Recorder(SecureRandomness()))
        return made[-1]

    monkeypatch.setattr(image_gradients, "SecureRandomness", source)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a draw beside the secret source")

    trainer = PrivateTrainer(
        config, num_classes=3, device=torch.device("cpu"), noise_multiplier=1.0
    )
    before = torch.get_rng_state()
    trainer.train(weights, site, round_number=1, seeds=SeedTree(0))  # builds the network
    for name in ("rand", "randn", "randint", "bernoulli", "normal", "randperm"):
        monkeypatch.setattr(torch, name, forbidden)
    trainer.train(weights, site, round_number=1, seeds=SeedTree(0))
    assert torch.equal(torch.get_rng_state(), before)
    return made[-1]


@pytest.mark.long
def test_all_draws_of_a_round_come_from_the_secret_source(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one_round(monkeypatch)
    assert len(found.samples) == 2 + 2  # batches, and dropped labels of each
    limits = sorted({int(drawn.max()) for drawn in found.integers_drawn})
    assert limits[0] == 1  # flips
    assert limits[-1] > 100  # timesteps
    assert sum(drawn.numel() for drawn in found.normals) > 10_000  # noises of rows and of steps


def first_values(draws: np.ndarray) -> np.ndarray:
    """Which of 2^16 seeds of torch's begin like ``draws`` (timesteps below 1000)."""
    generator = torch.Generator()
    hits = []
    for seed in range(SEEDS):
        generator.manual_seed(seed)
        if torch.equal(torch.randint(1000, (4,), generator=generator), torch.from_numpy(draws[:4])):
            hits.append(seed)
    return np.array(hits)


@pytest.mark.long
def test_a_scan_finds_the_old_stream_and_not_the_new_one() -> None:
    """2^16 seeds stand for 2^32: a scan of the lot takes 65,536 times as long."""
    secret = 40_961 + (5 << 32)
    old = torch.randint(1000, (8,), generator=torch.Generator().manual_seed(secret)).numpy()
    assert first_values(old).tolist() == [40_961]
    for source in (SecureRandomness(), SeededRandomness(secret)):
        assert first_values(source.integers(8, below=1000).numpy()).size == 0
