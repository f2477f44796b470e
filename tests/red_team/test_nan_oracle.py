"""NaN answers a yes-or-no question about the images, unless no image can make one.

Crafted weights let exactly one image overflow: the network copies its input, times a number so
large that bright pixels leave float32 and dark ones do not. Were the update NaN, or an error, or
a loss infinite, the server would know whether the bright image is there: noise hides nothing of it.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from torch import nn

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.per_image import make_gradients
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer

KINDS = ["layers", "vmap"]
CLIP_NORM = 1.0
SETTINGS = ["model.block_channels=[8,8]", "model.attention=[false,false]"]
SETTINGS += ["model.mid_attention=false", "model.layers_per_block=1"]
SETTINGS += ["training.batch_size=1", "training.local_steps=1", "training.warmup_steps=0"]
SETTINGS += ["training.optimizer=sgd", "training.learning_rate=1", "training.lr_decay=none"]
SETTINGS += ["privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=1"]
SETTINGS += ["diffusion.prediction=epsilon"]


class Overflowing(nn.Module):
    """One parameter of each kind of layer; an input above one half overflows ``weight``."""

    def __init__(self, *, gain: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 1)
        self.linear = nn.Linear(1, 1)
        with torch.no_grad():
            self.convolution.weight.fill_(gain)
            self.convolution.bias.fill_(-0.5 * gain)
            self.linear.weight.fill_(1)
            self.linear.bias.fill_(0)
        for parameter in self.parameters():
            parameter.summed_grad = None

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor | None
    ) -> Answer:
        found = torch.relu(self.convolution(sample))
        shift = self.linear(timestep.float().view(-1, 1)).view(-1, 1, 1, 1)
        return Answer(found + shift + sample)


class Answer:
    def __init__(self, sample: torch.Tensor) -> None:
        self.sample = sample


def rows_of(pixels: list[float]) -> ImageRows:
    values = torch.tensor(pixels).view(-1, 1, 1, 1, 1).repeat(1, 1, 1, 4, 4)
    shape = (len(pixels), 1)
    return ImageRows(
        inputs=values,
        times=torch.ones(shape, dtype=torch.int64),
        target=torch.zeros_like(values),
        weight=torch.ones(shape),
        labels=None,
    )


def clipped_sum(kind: str, pixels: list[float], *, gain: float) -> tuple[torch.Tensor, list[float]]:
    network = Overflowing(gain=gain)
    gradients = make_gradients(kind, network, physical_batch=4)
    losses = gradients.accumulate(rows_of(pixels), clip_norm=CLIP_NORM)
    total = torch.cat([p.summed_grad.flatten() for p in network.parameters()])
    return total, losses.tolist()


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("gain", [1e20, 3e38], ids=["loss overflows", "output overflows"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_image_that_overflows_adds_exactly_nothing(kind: str, gain: float, place: int) -> None:
    dark = [0.1, 0.2, 0.3, 0.4]
    with_it = [*dark[:place], 5.0, *dark[place:]]
    total, losses = clipped_sum(kind, with_it, gain=gain)
    without, _ = clipped_sum(kind, dark, gain=gain)
    assert not math.isfinite(losses[place])  # the oracle would have had its answer
    assert sum(math.isfinite(loss) for loss in losses) == 4
    assert torch.equal(total, without)
    assert total.isfinite().all()
    assert float(total.norm()) > 0.1  # the others are there


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_infinite_loss_or_target_adds_nothing(kind: str) -> None:
    network = Overflowing(gain=1.0)
    gradients = make_gradients(kind, network, physical_batch=4)
    for broken in (math.inf, -math.inf, math.nan):
        rows = rows_of([0.1, 0.2, 0.3])
        rows.target[1] = broken
        gradients.accumulate(rows, clip_norm=CLIP_NORM)
        found = torch.cat([p.summed_grad.flatten() for p in network.parameters()])
        for parameter in network.parameters():
            parameter.summed_grad = None
        gradients.accumulate(rows_of([0.1, 0.3]), clip_norm=CLIP_NORM)
        expected = torch.cat([p.summed_grad.flatten() for p in network.parameters()])
        for parameter in network.parameters():
            parameter.summed_grad = None
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_ghost_clipping_itself_would_have_answered() -> None:
    """What ``ghost`` did: factors inside one weighted backward pass. Zero times infinity is NaN."""
    network = Overflowing(gain=3e38)
    rows = rows_of([0.1, 5.0])
    output = network(rows.inputs[:, 0], rows.times[:, 0], None).sample
    losses = (output - rows.target[:, 0]).square().flatten(1).mean(1)
    factor = torch.tensor([1.0, 0.0])
    torch.where(factor > 0, factor * losses, 0.0).sum().backward()
    assert network.convolution.weight.grad.isnan().any()


def bright_and_dark() -> tuple[SiteImages, SiteImages]:
    dark = np.full((6, 1, 8, 8), 100, np.uint8)
    dark[:, :, ::2] = 90
    bright = np.concatenate([dark, np.full((1, 1, 8, 8), 255, np.uint8)])
    return SiteImages(images=bright, labels=None), SiteImages(images=dark, labels=None)


def crafted(config: RunConfig) -> np.ndarray:
    """Weights within what a site accepts, with which every image overflows some activation."""
    network = build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "conv" in name or "norm" in name:
                parameter.mul_(9e3 / parameter.abs().max().clamp(min=1e-3))
    return to_vector(network)


def update(config: RunConfig, weights: np.ndarray, site: SiteImages) -> LocalUpdate:
    trainer = PrivateTrainer(
        config, num_classes=0, device=torch.device("cpu"), noise_multiplier=1.0
    )
    return trainer.train(weights, site, round_number=1, seeds=SeedTree(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_round_in_which_images_overflow_looks_like_any_other(
    kind: str, optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(
        None, [*SETTINGS, f"privacy.gradients={kind}", f"training.optimizer={optimizer}"]
    )
    weights = crafted(config)
    with caplog.at_level(logging.DEBUG):
        rounds = [update(config, weights, site) for site in bright_and_dark()]
    assert not caplog.records
    for found in rounds:
        assert np.isfinite(found.delta).all()
        assert found.num_steps == 1


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_that_overflows_leaves_the_law_of_the_update_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same draws for both neighbours: the image is the last, and its gradient overflows."""
    config = load_config(
        None, [*SETTINGS, f"privacy.gradients={kind}", "privacy.noise_source=seeded"]
    )
    weights = to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0))
    )
    trainer = PrivateTrainer(
        config, num_classes=0, device=torch.device("cpu"), noise_multiplier=1.0
    )
    with_it, without = bright_and_dark()
    rows = trainer._rows

    def overflowing(site: SiteImages, index: np.ndarray, **rest: object) -> ImageRows:
        """The network's weights aside, rows are where one image alone can be made to overflow.

        The neighbour without it draws for it as well, so that both share all other draws.
        """
        found = rows(with_it, np.arange(7), **rest)
        if len(index) not in (6, 7):
            return rows(site, index, **rest)  # the look at sizes of chunks
        found.inputs[6] *= 1e30
        return found if len(index) == 7 else found.each(lambda t: t[:6])

    monkeypatch.setattr(trainer, "_rows", overflowing)
    found = [
        trainer.train(weights, site, round_number=1, seeds=SeedTree(0))
        for site in (with_it, without)
    ]
    for one in found:
        assert np.isfinite(one.delta).all()
        assert math.isfinite(one.loss)
    assert found[0].loss == found[1].loss
    # The bound is clip_norm; an image that is left out moves nothing at all.
    np.testing.assert_array_equal(found[0].delta, found[1].delta)
