"""Sums of clipped gradients as whole numbers: what one image changes, found by search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixed_draws import FixedDraws
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import TrainingError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer
from phoenix_secure.training.steps import Cancelled

SETTINGS = [
    *("model.block_channels=[8]", "model.attention=[false]", "model.mid_attention=false"),
    *("federation.exchange=gradients", "federation.server_optimizer=fedadam"),
    *("training.batch_size=4", "training.local_steps=1", "privacy.unit=record"),
    *("privacy.trust=sum", "privacy.noise_multiplier=1", "privacy.sampling_rate=1"),
    *("privacy.physical_batch=20", "privacy.clip_norm=0.3"),
]
GRID = IntegerGrid(steps=1 << 18, limit=1 << 40)


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def initial(config: RunConfig) -> np.ndarray:
    return to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    )


class CoupledSummer(GradientSummer):
    """The same draws for the same images, so that neighbours differ in one image alone."""

    def _randomness(self, seeds: SeedTree) -> FixedDraws:  # type: ignore[override]
        return FixedDraws(num_normals=8192)


def summer_of(config: RunConfig, *, grid: IntegerGrid = GRID) -> CoupledSummer:
    return CoupledSummer(config, num_classes=10, device=torch.device("cpu"), grid=grid)


def words_of(summer: GradientSummer, weights: np.ndarray, site: SiteImages) -> np.ndarray:
    return summer.sum(weights, site, round_number=1, seeds=SeedTree(0)).words


def take(site: SiteImages, index: np.ndarray) -> SiteImages:
    assert site.labels is not None
    return SiteImages(images=site.images[index], labels=site.labels[index])


def with_odd_pictures(digits: SiteImages) -> SiteImages:
    """Digits, a black and a white picture, a chessboard, and one digit twice."""
    odd = np.zeros((4, 1, 8, 8), np.uint8)
    odd[1], odd[2, 0, ::2, ::2], odd[3] = 255, 255, digits.images[0]
    images = np.concatenate([digits.images[:14], odd])
    return SiteImages(images=images, labels=np.arange(18, dtype=np.int64) % 10)


@pytest.mark.long
@pytest.mark.parametrize(
    ("scale", "overrides"),
    [
        (1.0, []),
        pytest.param(
            1.0,
            ["privacy.gradients=hooks", "model.class_conditional=true"],
            marks=pytest.mark.slow,
        ),
        (30.0, ["diffusion.prediction=v"]),  # gradients far beyond the clip
        pytest.param(1e-3, ["privacy.clip_norm=1e3"], marks=pytest.mark.slow),  # and far within
    ],
)
def test_no_neighbour_is_further_than_the_sensitivity(
    scale: float, overrides: list[str], digits: SiteImages
) -> None:
    """Every image of a site is left out in turn: across chunks, beside itself, odd ones too."""
    config, site = configured(*overrides), with_odd_pictures(digits)
    summer, weights = summer_of(config), (initial(config) * scale).astype(np.float32)
    everything = np.arange(len(site.images))
    squares = []
    for index in everything:
        # Last, since what is drawn for the others must not change with it.
        order = np.append(np.delete(everything, index), index)
        whole = words_of(summer, weights, take(site, order))
        fewer = words_of(summer, weights, take(site, order[:-1]))
        squares.append(sum(int(each) ** 2 for each in whole - fewer))

    assert max(squares) <= GRID.squared_sensitivity
    if config.privacy.clip_norm < 1:
        assert max(squares) > 0.95 * GRID.squared_sensitivity  # the bound is what happens
    else:
        assert 0 < max(squares) < 0.5 * GRID.squared_sensitivity


def test_a_sum_without_rounding_first_would_break_the_bound() -> None:
    """Must fail: rounding the sum, not each image, lets one image move more words than its own."""
    rng = np.random.default_rng(1)
    others = np.full(400, 0.4999) + 1e-5 * rng.normal(size=400)
    one = np.full(400, 1e-3)
    moved = np.rint(others + one) - np.rint(others)

    assert np.square(moved).sum() > 100 * (np.linalg.norm(one) + 0.5) ** 2
    grid = IntegerGrid(steps=11, limit=1 << 20)
    scaled = one[None] / 400  # far within one unit
    assert np.square(grid.round(scaled)).sum() <= 11**2


def test_the_words_are_minus_the_clipped_gradients(digits: SiteImages) -> None:
    """Against the float sum that DP-SGD at one site makes from the same draws."""
    config, site = configured(), take(digits, np.arange(37))
    words = words_of(summer_of(config), initial(config), site)

    alone = config.privacy.model_copy(update={"trust": "site-local"})
    trainer = PrivateTrainer(
        config.model_copy(update={"privacy": alone}),
        num_classes=10,
        device=torch.device("cpu"),
        noise_multiplier=1.0,
    )
    network, gradients = trainer._loaded(initial(config), site, round_number=1)
    for parameter in network.parameters():
        parameter.summed_grad = None  # type: ignore[attr-defined]
    draws = FixedDraws(num_normals=8192)
    sample = trainer._sample(site, randomness=draws)
    for rows in trainer._chunks(site, sample, sizes=gradients.sizes, randomness=draws):
        gradients.accumulate(rows, clip_norm=0.3)
    expected = torch.cat([p.summed_grad.reshape(-1) for p in network.parameters()]).numpy()
    unit = GRID.feature_scale(words.size) / 0.3
    assert np.abs(words / unit + expected).max() < 37 * 0.51 / unit
    assert np.abs(expected).max() > 1000 / unit


def test_an_image_that_overflows_adds_exactly_nothing(digits: SiteImages) -> None:
    config, site = configured(), take(digits, np.arange(5))
    summer = summer_of(config)
    rows = summer._rows

    def overflowing(*args: object, **rest: object) -> object:
        found = rows(*args, **rest)  # type: ignore[arg-type]
        if found.num_images == 5:
            found.inputs[4] *= 1e30
        return found

    fewer = words_of(summer, initial(config), take(digits, np.arange(4)))
    summer._rows = overflowing  # type: ignore[method-assign, assignment]
    assert np.array_equal(words_of(summer, initial(config), site), fewer)


def test_words_are_cut_off_at_the_public_limit(digits: SiteImages) -> None:
    config = configured()
    whole = words_of(summer_of(config), initial(config), digits)
    narrow = IntegerGrid(steps=GRID.steps, limit=1000)
    cut = words_of(summer_of(config, grid=narrow), initial(config), digits)

    assert np.array_equal(cut, np.clip(whole, -1000, 1000))
    assert (cut != whole).any()


def test_weights_that_no_honest_run_has_are_refused_before_any_image_is_looked_at(
    digits: SiteImages,
) -> None:
    config = configured()
    summer, weights = summer_of(config), initial(config)
    weights[7] = 2e4
    with pytest.raises(TrainingError, match="weights beyond 10000"):
        words_of(summer, weights, digits)
    weights[7] = np.nan
    with pytest.raises(ValueError, match="finite"):
        words_of(summer, weights, digits)
    with pytest.raises(Cancelled):
        summer.sum(
            initial(config), digits, round_number=1, seeds=SeedTree(0), cancelled=lambda: True
        )


def test_samples_are_secret_and_of_the_public_rate(digits: SiteImages) -> None:
    config = configured("privacy.sampling_rate=0.25")
    summer = GradientSummer(config, num_classes=10, device=torch.device("cpu"), grid=GRID)
    seen: list[int] = []
    found = [
        summer.sum(
            initial(config), digits, round_number=1, seeds=SeedTree(0), progress=seen.append
        ).words
        for _ in range(12)
    ]
    assert not np.array_equal(found[0], found[1])  # the same seeds: they have no part in it
    assert len(set(seen)) > 1
    assert abs(sum(seen) - 12 * 16) < 5 * np.sqrt(12 * 64 * 0.25 * 0.75)
