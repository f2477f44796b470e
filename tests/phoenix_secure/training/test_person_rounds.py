"""Rounds that protect persons: one clip norm each, and with one image each nothing is new."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixed_draws import FixedDraws
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.persons import Persons
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.randomness import Randomness, SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.image_gradients import _some_of
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer

SETTINGS = [
    *("model.block_channels=[8]", "model.attention=[false]", "model.mid_attention=false"),
    *("training.batch_size=4", "training.local_steps=1", "training.warmup_steps=0"),
    *("training.optimizer=sgd", "training.learning_rate=1", "training.lr_decay=none"),
    *("privacy.noise_multiplier=1", "privacy.sampling_rate=1", "privacy.clip_norm=1e-3"),
    *("privacy.physical_batch=20", "privacy.noise_source=seeded"),
]
PERSONS = ["data.name=npz", "data.path=x.npz", "data.group=array:patient", "privacy.unit=group"]
SUM = ["federation.exchange=gradients", "privacy.trust=sum", "federation.server_optimizer=fedavg"]
GRID = IntegerGrid(steps=1 << 18, limit=1 << 40)


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def weights(config: RunConfig, *, scale: float = 1.0) -> np.ndarray:
    found = to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0))
    )
    return (found * scale).astype(np.float32)


def change(config: RunConfig, site: SiteImages, *, noise: float = 1.0) -> np.ndarray:
    trainer = PrivateTrainer(
        config, num_classes=0, device=torch.device("cpu"), noise_multiplier=noise
    )
    seeds = SeedTree(1)
    return trainer.train(weights(config), site, round_number=1, seeds=seeds).delta


def of_persons(site: SiteImages, groups: list[int]) -> SiteImages:
    return SiteImages(
        images=site.images[: len(groups)], labels=None, groups=np.array(groups, np.int64)
    )


def test_persons_of_one_image_each_are_images_bit_for_bit(digits: SiteImages) -> None:
    alone = of_persons(digits, list(range(50, 0, -1)))
    images = SiteImages(images=alone.images[::-1].copy(), labels=None)  # in the order of numbers
    rate = "privacy.sampling_rate=0.6"
    record = change(configured("privacy.unit=record", rate), images)
    person = change(configured(*PERSONS, rate), alone)
    np.testing.assert_array_equal(record, person)

    words = []
    for unit, site in (["privacy.unit=record"], images), (PERSONS, alone):
        config = configured(*unit, *SUM, rate)
        summer = GradientSummer(config, num_classes=0, device=torch.device("cpu"), grid=GRID)
        made = summer.sum(weights(config), site, round_number=1, seeds=SeedTree(1))
        words.append(made.words)
    np.testing.assert_array_equal(*words)


@pytest.mark.parametrize("size", [1, 4, 13])
def test_a_person_moves_a_step_by_at_most_the_clip_norm(digits: SiteImages, size: int) -> None:
    """Rate 1 and (nearly) no noise: a step is minus the clipped sum over the divisor."""
    one = SiteImages(
        images=np.repeat(digits.images[:1], size, axis=0),
        labels=None,
        groups=np.zeros(size, np.int64),
    )
    config = configured(*PERSONS, "privacy.noise_draws=4", "privacy.images_per_group=8")
    moved = np.linalg.norm(change(config, one, noise=1e-9)) * config.training.batch_size
    assert moved == pytest.approx(1e-3, rel=2e-3)


def test_clipping_image_by_image_would_be_seen(
    digits: SiteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The must-fail case: without means, thirteen alike images move a step by most of thirteen."""
    one = SiteImages(
        images=np.repeat(digits.images[:1], 13, axis=0), labels=None, groups=np.zeros(13, np.int64)
    )
    config = configured(*PERSONS, "privacy.noise_draws=8", "privacy.images_per_group=16")
    monkeypatch.setattr(
        "phoenix_secure.privacy.person_means.PersonMeans.take",
        lambda self, samples, num_images: (samples, num_images),
    )
    moved = np.linalg.norm(change(config, one, noise=1e-9)) * config.training.batch_size
    assert moved > 4 * 1e-3


def _draws() -> FixedDraws:
    return FixedDraws(num_normals=1 << 14)


class CoupledSummer(GradientSummer):
    """Every image draws alike in any place, so that neighbours differ in one person alone."""

    def _randomness(self, seeds: SeedTree) -> FixedDraws:  # type: ignore[override]
        return _draws()

    def _rows(self, site: SiteImages, index: np.ndarray, *, randomness: Randomness) -> ImageRows:
        rows_of = super()._rows
        each = [
            rows_of(site, index[[k]], randomness=FixedDraws(num_normals=1 << 14))
            for k in range(len(index))
        ]
        return ImageRows(
            inputs=torch.cat([rows.inputs for rows in each]),
            times=torch.cat([rows.times for rows in each]),
            target=torch.cat([rows.target for rows in each]),
            weight=torch.cat([rows.weight for rows in each]),
            labels=None,
        )


@pytest.mark.parametrize("scale", [1.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_no_neighbour_is_further_than_the_sensitivity(digits: SiteImages, scale: float) -> None:
    """All images of each person are left out in turn: cut by chunks, and more than are taken."""
    config = configured(*PERSONS, *SUM, "privacy.clip_norm=0.3", "privacy.images_per_group=5")
    summer = CoupledSummer(config, num_classes=0, device=torch.device("cpu"), grid=GRID)
    vector, sizes = weights(config, scale=scale), [7, 1, 3, 5, 9, 2]

    def words(order: list[int]) -> np.ndarray:
        groups = np.repeat(np.arange(len(order)), [sizes[k] for k in order])
        own = [digits.images[8 * k : 8 * k + 8].repeat(2, axis=0)[: sizes[k]] for k in order]
        site = SiteImages(images=np.concatenate(own), labels=None, groups=groups.astype(np.int64))
        return summer.sum(vector, site, round_number=1, seeds=SeedTree(0)).words

    whole, squares = words(list(range(len(sizes)))), []
    for person in range(len(sizes)):
        others = [k for k in range(len(sizes)) if k != person]
        squares.append(int(np.square(whole - words(others)).sum()))
    assert max(squares) <= GRID.squared_sensitivity
    assert max(squares) > 0.95 * GRID.squared_sensitivity


def test_at_most_so_many_images_of_a_person_each_as_likely_as_any() -> None:
    draws, own = SeededRandomness(3), np.array([4, 7, 8, 15, 20])
    counts = dict.fromkeys(own.tolist(), 0)
    for _ in range(3000):
        chosen = _some_of(own, most=2, randomness=draws).tolist()
        assert len(set(chosen)) == 2
        for image in chosen:
            counts[image] += 1
    for count in counts.values():
        assert abs(count - 1200) < 5 * (3000 * 0.4 * 0.6) ** 0.5
    assert _some_of(own, most=5, randomness=draws) is own


def test_the_sample_is_of_persons_at_the_public_rate(digits: SiteImages) -> None:
    site = of_persons(digits, [0] * 20 + [1] * 10 + list(range(2, 34)))
    config = configured(*PERSONS, "privacy.sampling_rate=0.3", "privacy.images_per_group=3")
    trainer = PrivateTrainer(
        config, num_classes=0, device=torch.device("cpu"), noise_multiplier=1.0
    )
    draws, seen = SeededRandomness(0), np.zeros(34)
    first: set[tuple[int, ...]] = set()
    for _ in range(1000):
        index = trainer._sample(site, randomness=draws).images
        persons = [set(own.tolist()) for own in Persons(site.groups)]
        for number, own in enumerate(persons):
            drawn = own & set(index.tolist())
            assert len(drawn) in (0, min(3, len(own)))
            seen[number] += bool(drawn)
        first.add(tuple(image for image in index.tolist() if image < 20))
    assert np.abs(seen - 300).max() < 5 * (1000 * 0.3 * 0.7) ** 0.5
    assert len(first) > 100  # drawn anew each time


def test_no_person_at_all_is_a_step_of_noise(digits: SiteImages) -> None:
    nobody = SiteImages(images=digits.images[:0], labels=None)
    delta = change(configured(*PERSONS), nobody, noise=3.0)
    assert delta.std() == pytest.approx(3.0 * 1e-3 / 4, rel=0.1)


def test_settings_under_which_no_person_is_protected_are_refused(digits: SiteImages) -> None:
    with pytest.raises(DataError, match=r"privacy\.unit = group .* set data\.group"):
        change(configured(*PERSONS), digits)
    for wrong, why in [
        (["privacy.images_per_group=2", "privacy.unit=record"], "set privacy.unit to group"),
        ([*PERSONS, "privacy.images_per_group=0"], "images_per_group"),
        ([*PERSONS, "privacy.adaptive_clip=true"], "privacy.unit to site"),
    ]:
        with pytest.raises(ConfigError, match=why):
            configured(*wrong)
