"""What attacks see of a network does not depend on how many workers answer them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.diffusion.sampling import build_pipeline
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

CPU = torch.device("cpu")
SETTINGS = ["model.block_channels=[8,16]", "model.attention=[false,true]"]


def denoiser(*overrides: str) -> PipelineDenoiser:
    config = load_config(None, [*SETTINGS, *overrides])
    unet = build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in unet.parameters():  # a fresh network answers zero to everything
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    return PipelineDenoiser(build_pipeline(unet, config), device=CPU)


@pytest.mark.parametrize(
    "overrides",
    [(), ("diffusion.prediction=v",), ("diffusion.prediction=edm",), ("model.space_to_depth=2",)],
    ids=str,
)
def test_answers_are_the_same_on_any_number_of_workers(overrides: tuple[str, ...]) -> None:
    model = denoiser(*overrides)
    z = to_unit_range(load_digits().images[:150])
    t = np.random.default_rng(0).integers(0, len(model.alpha_bar), 150)
    found = []
    for number in (1, 2, 4):
        with workers(number):
            found.append(model(z, t))
    assert found[0].std() > 0.01
    assert all(np.array_equal(each, found[0]) for each in found[1:])
    assert np.array_equal(model(z, t), found[0])
    assert model.num_queries == 4 * 150
    one_by_one = np.concatenate([model(z[k : k + 1], t[k : k + 1]) for k in range(0, 150, 17)])
    np.testing.assert_allclose(one_by_one, found[0][::17], rtol=1e-3, atol=1e-4)
