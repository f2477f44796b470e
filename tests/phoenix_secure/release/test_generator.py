"""Fitting moves a generator towards the means by an unbiased loss; folders are read as written."""

import json
from dataclasses import replace
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
from phoenix_secure.release.fitting import GeneratorFit, known_classes, squared_distance
from phoenix_secure.release.generator import (
    FittedGenerator,
    load_generator,
    sample_generated,
    save_generator,
)
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.release.networks import (
    Generator,
    GeneratorForm,
    MixedGenerator,
    build_generator,
)
from phoenix_secure.rng import SeedTree

FORM = GeneratorForm(channels=1, image_size=8, num_classes=10, latent_size=4)
CPU = torch.device("cpu")


def test_the_distance_is_unbiased_and_the_square_of_one_mean_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0.3, 0.0, 0.0])
    errors = truth + torch.randn(1500, 2, 3, generator=generator)  # two images, deviation 1
    distances = squared_distance(errors)
    squares = errors.mean(1).square().sum(1)

    assert distances.mean().item() == pytest.approx(
        0.09, abs=4 * distances.std().item() / 1500**0.5
    )
    assert squares.mean().item() == pytest.approx(1.59, rel=0.1)


def digits_fit(form: GeneratorForm = FORM, **settings: object) -> GeneratorFit:
    release = ReleaseConfig.model_validate(
        {"features": "hogpix", "num_features": 128, "fit_steps": 20, "fit_batch": 80, **settings}
    )
    layout = layout_of_release(release, channels=1, image_size=8, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    digits = load_digits()
    site = SiteImages(images=digits.images[:600], labels=digits.labels[:600])
    grid = IntegerGrid(steps=1 << 12, count_step=819, limit=1 << 30)
    sums = sum_features(site, features, grid=grid, num_classes=10)
    return GeneratorFit(
        build_generator(form, seeds=SeedTree(0)),
        class_means(sums.words, grid=grid, num_classes=10),
        features,
        known=tuple(range(10)),
        seeds=SeedTree(0),
        num_threads=1,
    )


def weights_of(fit: GeneratorFit) -> dict[str, torch.Tensor]:
    fit.finish()
    return fit.network.state_dict()


@pytest.mark.long
def test_fitting_comes_nearer_to_the_means_of_real_digits() -> None:
    fit = digits_fit(fit_steps=200, fit_batch=40, num_features=64)
    distances = [fit.advance() for _ in range(fit.num_steps)]

    assert fit.step == 200
    assert np.mean(distances[-10:]) < np.mean(distances[1:11]) / 2


def test_a_fit_that_was_kept_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings = {"fit_steps": 6, "fit_batch": 16}  # classes take turns: their means age apart
    whole = digits_fit(**settings)
    for _ in range(6):
        whole.advance()
    first, second = digits_fit(**settings), digits_fit(**settings)
    for _ in range(3):
        first.advance()
    (tmp_path / "fit").write_bytes(first.to_bytes(of="sum"))

    assert not second.restore(tmp_path / "fit", of="another sum")
    assert not second.restore(tmp_path / "missing", of="sum")
    assert not digits_fit(num_features=64).restore(tmp_path / "fit", of="sum")
    assert second.step == 0
    assert second.restore(tmp_path / "fit", of="sum")
    assert second.step == 3
    for _ in range(3):
        second.advance()
    found, expected = weights_of(second), weights_of(whole)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    (tmp_path / "fit").write_bytes((tmp_path / "fit").read_bytes()[:-9])
    assert not digits_fit(**settings).restore(tmp_path / "fit", of="sum")


def test_a_loss_that_is_not_finite_stops_the_fit() -> None:
    fit = digits_fit()
    with torch.no_grad():
        next(fit.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"release\.fit_learning_rate"):
        fit.advance()


def test_more_classes_than_a_batch_holds_take_turns() -> None:
    fit = digits_fit(fit_steps=4, fit_batch=8)

    assert all(np.isfinite(fit.advance()) for _ in range(4))


def test_black_and_white_are_reached_and_sharper_edges_have_fewer_greys() -> None:
    network = build_generator(FORM, seeds=SeedTree(0)).eval()
    latents = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 20
    labels = torch.arange(50) % 10
    with torch.no_grad():
        soft, sharp = (network(latents, labels, sharpness=each) for each in (1.0, 50.0))

    def greys(images: torch.Tensor) -> float:
        return float(((images > 0) & (images < 1)).float().mean())

    assert greys(sharp) < greys(soft)
    assert {0.0, 1.0} <= set(sharp.unique().tolist())


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


MIXED = replace(FORM, num_networks=3)


def test_each_network_of_a_mixture_draws_its_share_whatever_is_drawn_beside() -> None:
    network = build_generator(MIXED, seeds=SeedTree(0)).eval()
    assert isinstance(network, MixedGenerator)
    latents = torch.randn(6000, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(6000) % 10
    with torch.no_grad():
        images = network(latents, labels, sharpness=2.0)
        alone = network(latents[17:18], labels[17:18], sharpness=2.0)
        of_each = [each(latents, labels, sharpness=2.0) for each in network.networks]
    whose = [(images - each).abs().amax((1, 2, 3)) < 1e-5 for each in of_each]

    assert torch.stack(whose).sum(0).eq(1).all()
    assert all(1850 < int(each.sum()) < 2150 for each in whose)  # 2000 +- 4 deviations
    torch.testing.assert_close(alone[0], images[17])


def test_a_mixture_is_fitted_kept_and_gone_on_with(tmp_path: Path) -> None:
    settings = {"fit_steps": 4, "fit_batch": 16}
    whole, first, second = (digits_fit(form=MIXED, **settings) for _ in range(3))
    start = [each.detach().clone() for each in whole.network.parameters()]
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    (tmp_path / "fit").write_bytes(first.to_bytes(of="sum"))
    assert second.restore(tmp_path / "fit", of="sum")
    for _ in range(2):
        second.advance()
    assert not digits_fit(**settings).restore(tmp_path / "fit", of="sum")

    found, expected = weights_of(second), weights_of(whole)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    moved = [not torch.equal(a, b) for a, b in zip(start, whole.network.parameters(), strict=True)]
    assert all(moved)
    kept = replace(fitted(), network=whole.network, latent_scale=1.0)
    save_generator(kept, tmp_path / "generator")
    again = load_generator(tmp_path / "generator", device=CPU)
    drawn = [
        sample_generated(each, num_images=20, generator=torch.Generator().manual_seed(2))
        for each in (kept, again)
    ]
    np.testing.assert_array_equal(*drawn)


def test_a_scale_of_latents_that_would_prefer_some_generators_is_refused() -> None:
    with pytest.raises(ValueError, match="latent_scale"):
        ReleaseConfig(generators=3, latent_scale=0.9)
    assert "generators" not in ReleaseConfig().model_dump()


def fitted() -> FittedGenerator:
    return FittedGenerator(
        network=build_generator(FORM, seeds=SeedTree(1)).eval(),
        class_names=tuple("abcdefghij"),
        known=(2, 5),
        sum_sha256="0" * 64,
        latent_scale=0.5,
        sharpness=3.0,
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
        {"latent_scale": 2},
        {"sharpness": 0},
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save_generator(fitted(), tmp_path / "g")
    file = tmp_path / "g" / "release.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g", device=CPU)
