"""Fitting moves a generator towards the means by an unbiased loss; folders are read as written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.release.class_sums import ClassMeans, class_means, sum_features
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.fitting import fit_generator, halves_loss, known_classes
from phoenix_secure.release.generator import (
    FittedGenerator,
    Generator,
    GeneratorForm,
    build_generator,
    load_generator,
    sample_generated,
    save_generator,
)
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.rng import SeedTree

FORM = GeneratorForm(channels=1, image_size=8, num_classes=10, latent_size=4)
CPU = torch.device("cpu")


def test_the_loss_of_two_halves_is_unbiased_and_the_square_of_one_mean_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    target, truth = torch.zeros(1, 3), torch.tensor([[0.3, 0.0, 0.0]])
    means = truth + torch.randn(1500, 2, 1, 3, generator=generator)  # a batch's mean, deviation 1
    halves = torch.stack([halves_loss(first, second, target) for first, second in means])
    squares = torch.stack([halves_loss(first, first, target) for first, _ in means])

    assert halves.mean().item() == pytest.approx(0.09, abs=4 * halves.std().item() / 1500**0.5)
    assert squares.mean().item() == pytest.approx(3.09, rel=0.1)


def test_fitting_comes_nearer_to_the_means_of_real_digits() -> None:
    release = ReleaseConfig.model_validate(
        {"features": "hogpix", "num_features": 128, "fit_steps": 20, "fit_batch": 80}
    )
    layout = layout_of_release(release, channels=1, image_size=8, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    digits = load_digits()
    site = SiteImages(images=digits.images[:600], labels=digits.labels[:600])
    grid = IntegerGrid(steps=1 << 12, count_step=819, limit=1 << 30)
    sums = sum_features(site, features, grid=grid, num_classes=10)
    means = class_means(sums.words, grid=grid, num_classes=10)
    network = build_generator(FORM, seeds=SeedTree(0))
    steps = list(
        fit_generator(
            network,
            means,
            features,
            known=tuple(range(10)),
            seeds=SeedTree(0),
            num_threads=1,
        )
    )

    assert [step.step for step in steps] == [1, 20]
    assert steps[-1].loss < steps[0].loss / 2


def test_more_classes_than_a_batch_holds_take_turns() -> None:
    release = ReleaseConfig.model_validate(
        {"features": "hog", "num_features": 16, "fit_steps": 2, "fit_batch": 8}
    )
    layout = layout_of_release(release, channels=1, image_size=8, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    means = ClassMeans(means=np.zeros((10, features.size)), counts=np.ones(10))
    network = build_generator(FORM, seeds=SeedTree(0))
    steps = fit_generator(
        network, means, features, known=tuple(range(10)), seeds=SeedTree(0), num_threads=1
    )

    assert all(np.isfinite(step.loss) for step in steps)


def test_classes_that_noise_hides_are_unknown() -> None:
    means = ClassMeans(means=np.zeros((3, 2)), counts=np.array([50.0, 2.9, 400.0]))

    assert known_classes(means, count_noise=1.0) == (0, 2)
    with pytest.raises(TrainingError, match=r"privacy\.epsilon"):
        known_classes(means, count_noise=200.0)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 30), (3, 32), (3, 64)])
def test_images_have_the_form_asked_for(channels: int, size: int) -> None:
    form = GeneratorForm(channels=channels, image_size=size, num_classes=1, latent_size=4)
    images = Generator(form).eval()(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))

    assert images.shape == (2, channels, size, size)
    assert 0 <= images.min() <= images.max() <= 1


def fitted() -> FittedGenerator:
    return FittedGenerator(
        network=build_generator(FORM, seeds=SeedTree(1)).eval(),
        class_names=tuple("abcdefghij"),
        known=(2, 5),
        sum_sha256="0" * 64,
    )


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_generator(fitted(), tmp_path / "g")
    read = load_generator(tmp_path / "g", device=CPU)

    assert read.known_names == ("c", "f")
    assert read.labels(3).tolist() == [2, 5, 2]
    first, second = (
        sample_generated(each, num_images=3, generator=torch.Generator().manual_seed(0))
        for each in (fitted(), read)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "phoenix-secure/generator/v9"},
        {"known": []},
        {"known": [11]},
        {"latent_size": 10**9},
        {"weights_sha256": "0" * 64},
        {"class_names": ["one"]},
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save_generator(fitted(), tmp_path / "g")
    file = tmp_path / "g" / "release.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g", device=CPU)
