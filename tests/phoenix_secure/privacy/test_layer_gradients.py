"""Whole networks layer by layer: shared layers and parameters, what has no rule, what is kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy import layer_gradients
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.layer_gradients import LayerGradients, unknown_layer
from phoenix_secure.privacy.per_image import make_gradients
from phoenix_secure.privacy.vmap_gradients import VmapGradients
from privacy_networks import network_of, one_image_loop, rows_of


@dataclass
class Config:
    in_channels: int = 2
    sample_size: int = 6


@dataclass
class Answer:
    sample: torch.Tensor


class Network(nn.Module):
    """A convolution, its time embedding, and whatever a test puts on top."""

    config = Config()

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.time = nn.Linear(1, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor | None
    ) -> Answer:
        shift = self.time(timestep.to(sample.dtype)[:, None] / 1000)
        hidden = self.first(sample) + shift[:, :, None, None]
        return Answer(self.last(self.top(torch.relu(hidden))))

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


class TwiceTheSame(Network):
    """One layer runs twice, and two layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.middle, self.twin = nn.Linear(4, 4), nn.Linear(4, 4)
        self.twin.weight = self.middle.weight

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        tokens = hidden.flatten(2).transpose(1, 2)
        found = self.twin(self.middle(torch.tanh(self.middle(tokens))))
        return found.transpose(1, 2).view_as(hidden)


class InPlace(Network):
    """Outputs of layers are changed in place, as ReLU often does."""

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.last(hidden).relu_().repeat(1, 2, 1, 1)


class Idle(Network):
    """A layer that has no part in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)


class OutsideItsLayer(Network):
    """The weights of a layer with a rule, used without the layer."""

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self.time.weight.sum()


class TokensFirst(Network):
    """A layer that sees the images in its second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Linear(4, 4)

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        found = self.middle(hidden.flatten(2).permute(2, 0, 1))
        return found.permute(1, 2, 0).reshape(hidden.shape)


class OwnParameter(Network):
    """A parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self.scale


def in_float64(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * noise)
    for parameter in network.parameters():
        parameter.summed_grad = None
    return network


def rows_for(network: nn.Module, *, num_images: int = 3, num_rows: int = 2) -> ImageRows:
    return rows_of(network, num_images=num_images, num_rows=num_rows, conditional=False)


@pytest.mark.parametrize("kind", [Network, TwiceTheSame, InPlace])
@pytest.mark.parametrize("num_rows", [1, 2])
def test_networks_equal_autograd_one_image_after_the_other(
    kind: type[Network], num_rows: int
) -> None:
    network = in_float64(kind())
    rows = rows_for(network, num_rows=num_rows)
    expected = one_image_loop(network, rows)
    found, losses = LayerGradients(network, physical_batch=3)(rows)
    assert set(found) == set(expected[0])
    assert losses.shape == (3,)
    for name, sample in found.items():
        loop = torch.stack([each[name] for each in expected])
        torch.testing.assert_close(sample.instantiated(), loop)


def test_a_layer_without_a_part_in_the_loss_has_gradients_of_zero() -> None:
    network = in_float64(Idle())
    found, _ = LayerGradients(network, physical_batch=3)(rows_for(network))
    assert found["idle.weight"].instantiated().shape == (3, 3, 3)
    assert not found["idle.weight"].instantiated().any()
    gradients = make_gradients("layers", network, physical_batch=3)
    gradients.accumulate(rows_for(network), clip_norm=1.0)
    assert not network.idle.weight.summed_grad.any()


def test_a_parameter_used_outside_its_layer_is_an_error() -> None:
    """Its gradient would be a part of what it is: the model would learn something else."""
    network = in_float64(OutsideItsLayer())
    with pytest.raises(ConfigError, match=r"parameter time\.weight is used outside its layer"):
        LayerGradients(network, physical_batch=3)(rows_for(network))


def test_a_layer_that_mixes_the_order_of_images_is_an_error() -> None:
    network = in_float64(TokensFirst())
    with pytest.raises(ConfigError, match="layer middle takes 36 rows for 6 of images"):
        LayerGradients(network, physical_batch=3)(rows_for(network))


@pytest.mark.parametrize("kind", [OutsideItsLayer, TokensFirst, OwnParameter])
def test_torch_func_is_exact_for_networks_without_rules(kind: type[Network]) -> None:
    network = in_float64(kind())
    rows = rows_for(network)
    expected = one_image_loop(network, rows)
    found, _ = VmapGradients(network)(rows)
    for name, sample in found.items():
        loop = torch.stack([each[name] for each in expected])
        torch.testing.assert_close(sample.instantiated(), loop)


def test_a_network_with_a_parameter_of_its_own_takes_torch_func() -> None:
    network = OwnParameter()
    assert unknown_layer(network) == ""
    assert isinstance(make_gradients("layers", network, physical_batch=2)._samples, VmapGradients)
    with pytest.raises(ValueError, match="has no rule"):
        LayerGradients(network, physical_batch=2)
    assert unknown_layer(Network()) is None


def test_the_network_is_as_before_after_a_pass_and_after_an_error() -> None:
    for kind in (Network, TokensFirst):
        network = in_float64(kind())
        with suppress(ConfigError):
            LayerGradients(network, physical_batch=3)(rows_for(network))
        assert all("forward" not in vars(module) for module in network.modules())


@pytest.mark.parametrize("num_rows", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_layers_that_are_not_kept_give_the_same_bits(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of("tiny-s2d", conditional=True).float()
    rows = rows_of(network, num_images=4, num_rows=num_rows, conditional=True)
    rows = rows.each(lambda t: t.float() if t.is_floating_point() else t)
    found = []
    for most in (1 << 27, 1 << 14, 0):
        monkeypatch.setattr(layer_gradients, "_KEPT_NUMBERS", most)
        gradients = LayerGradients(network, physical_batch=4)
        samples, _ = gradients(rows)
        found.append({name: s.instantiated().clone() for name, s in samples.items()})
        num_kept = sum(layer.space is not None for layer in gradients._layers)
        assert (num_kept == 0) == (most == 0)
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected)
        assert torch.equal(found[2][name], expected)


def test_gradients_of_an_earlier_chunk_are_never_those_of_a_later_one() -> None:
    """Memory is used again: what was not taken in time is an error."""
    network = in_float64(Network())
    gradients = LayerGradients(network, physical_batch=3)
    earlier, _ = gradients(rows_for(network))
    gradients(rows_for(network))
    with pytest.raises(RuntimeError, match="written over"):
        earlier["last.weight"].instantiated()
