"""The network: sizes of the presets, repeatable weights, GroupNorm only, clear refusals."""

from __future__ import annotations

import pytest
import torch

from phoenix_secure.config import ModelConfig
from phoenix_secure.diffusion.unet import build_unet, num_parameters
from phoenix_secure.errors import ConfigError
from phoenix_secure.rng import SeedTree


def build(image_size: int = 28, channels: int = 1, seed: int = 0, **settings: object):
    model = ModelConfig(**settings)
    return build_unet(
        model, image_size=image_size, channels=channels, num_classes=10, seeds=SeedTree(seed)
    )


def test_cifar10_preset_is_the_35_7_million_parameter_network() -> None:
    assert num_parameters(build(32, 3, preset="cifar10")) == 35_746_307


@pytest.mark.parametrize("preset", ["tiny", "tiny-s2d", "small", "base"])
def test_presets_answer_with_the_shape_they_were_asked(preset: str) -> None:
    network = build(preset=preset)
    side = network.config.sample_size
    x = torch.zeros((2, network.config.in_channels, side, side))
    with torch.no_grad():
        assert network(x, torch.tensor([0, 9])).sample.shape == x.shape
    assert network.config.in_channels * side**2 == 28 * 28


def test_weights_depend_on_the_seed_alone() -> None:
    one, two, other = build(seed=1), build(seed=1), build(seed=2)
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    build()
    assert torch.equal(before, torch.random.get_rng_state())


def test_there_is_no_batch_norm_and_no_dropout() -> None:
    for preset in ("tiny", "small", "cifar10"):
        for module in build(32, 3, preset=preset).modules():
            assert not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            assert not (isinstance(module, torch.nn.Dropout) and module.p > 0)


def test_class_conditional_network_has_one_label_more() -> None:
    network = build(class_conditional=True)
    assert network.config.num_class_embeds == 11
    x = torch.zeros((2, 1, 28, 28))
    labels = torch.tensor([3, 10])
    with torch.no_grad():
        assert network(x, torch.tensor([1, 1]), class_labels=labels).sample.shape == x.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, "data.image_size = 30 must be a multiple of 4"),
        ({"preset": "cifar10"}, "multiple of 8"),
        ({"preset": "tiny-s2d", "image_size": 26}, "model.space_to_depth = 2"),
    ],
)
def test_image_that_does_not_halve_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_labels_are_needed_for_a_class_conditional_network() -> None:
    with pytest.raises(ConfigError, match="needs labelled images"):
        build_unet(
            ModelConfig(class_conditional=True),
            image_size=28,
            channels=1,
            num_classes=0,
            seeds=SeedTree(0),
        )
