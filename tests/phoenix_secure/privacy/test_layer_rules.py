"""Every kind of layer: single images' gradients equal autograd's, one image after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from phoenix_secure.privacy.convolution_gradients import _by_groups, _by_products
from phoenix_secure.privacy.layer_rules import Task, rule_for
from phoenix_secure.privacy.sample_gradients import SampleGradient

TASK = Task(num_images=3, needs_input=True, keep=True)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def one_by_one(
    layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, *, num_images: int
) -> dict[str, torch.Tensor]:
    """The slow oracle (n, *shape) by name."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name, _ in layer.named_parameters()}
    for image, weight in zip(x.chunk(num_images), gradient.chunk(num_images), strict=True):
        layer.zero_grad(set_to_none=True)
        (layer(image) * weight).sum().backward()
        for name, parameter in layer.named_parameters():
            found[name].append(parameter.grad.clone())
    layer.zero_grad(set_to_none=True)
    return {name: torch.stack(each) for name, each in found.items()}


def by_rule(
    layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, task: Task = TASK
) -> tuple[torch.Tensor | None, dict[str, SampleGradient]]:
    rule = rule_for(layer)
    assert rule is not None
    with torch.no_grad():
        output, saved = rule.forward(layer, x)
        torch.testing.assert_close(output, layer(x))
        return rule.backward(layer, gradient, saved, task)


def close(found: torch.Tensor, expected: torch.Tensor, *, tolerance: float) -> None:
    """Every image's gradient within ``tolerance`` of its own largest entry."""
    assert found.shape == expected.shape
    errors = (found - expected).flatten(1).abs().amax(1)
    assert (errors <= tolerance * expected.flatten(1).abs().amax(1)).all()


def tokens(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda num: draw(num, *shape)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], torch.Tensor]]] = {
    "conv 3x3": (lambda: nn.Conv2d(4, 6, 3, padding=1), tokens(4, 7, 7)),
    "conv 3x3, large map": (lambda: nn.Conv2d(2, 3, 3, padding=1), tokens(2, 12, 11)),
    "conv 1x1": (lambda: nn.Conv2d(4, 6, 1), tokens(4, 5, 6)),
    "conv 1x1, stride 2": (lambda: nn.Conv2d(4, 6, 1, stride=2), tokens(4, 5, 6)),
    "conv, stride 2": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), tokens(3, 8, 8)),
    "conv, one channel": (lambda: nn.Conv2d(1, 8, 3, padding=1), tokens(1, 28, 28)),
    "conv, groups": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=2), tokens(4, 6, 6)),
    "conv, depthwise": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), tokens(4, 6, 6)),
    "conv without bias": (lambda: nn.Conv2d(2, 3, 3, bias=False), tokens(2, 6, 6)),
    "linear on vectors": (lambda: nn.Linear(5, 7), tokens(5)),
    "linear on tokens": (lambda: nn.Linear(5, 7), tokens(9, 5)),
    "linear on maps": (lambda: nn.Linear(5, 7, bias=False), tokens(3, 4, 5)),
    "group norm": (lambda: nn.GroupNorm(2, 6), tokens(6, 5, 5)),
    "group norm on tokens": (lambda: nn.GroupNorm(3, 6, eps=0.1), tokens(6, 9)),
    "embedding": (lambda: nn.Embedding(6, 5), lambda num: torch.arange(num) % 4),
    "layer norm": (lambda: nn.LayerNorm(5), tokens(4, 5)),
    "rms norm": (lambda: nn.RMSNorm(5), tokens(4, 5)),
}
NUM_ROWS = pytest.mark.parametrize("num_rows", [1, 2])
KINDS = pytest.mark.parametrize("kind", LAYERS)


def of_kind(kind: str, num_rows: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Layer, input and the output's gradient for three images, in float64."""
    build, inputs = LAYERS[kind]
    layer, x = build().double(), inputs(3 * num_rows)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed + 2))
    return layer, x, draw(*layer(x).shape, seed=1)


@KINDS
@NUM_ROWS
def test_a_layers_gradients_are_those_of_one_image_after_the_other(
    kind: str, num_rows: int
) -> None:
    layer, x, gradient = of_kind(kind, num_rows)
    expected = one_by_one(layer, x, gradient, num_images=3)
    into, found = by_rule(layer, x, gradient)
    assert set(found) == set(expected)
    for name, value in expected.items():
        close(found[name].instantiated(), value, tolerance=1e-12)
    if x.is_floating_point():
        again = x.clone().requires_grad_()
        (layer(again) * gradient).sum().backward()
        assert into is not None
        close(into, again.grad, tolerance=1e-12)


@KINDS
def test_single_precision_is_within_a_hundred_thousandth(kind: str) -> None:
    layer, x, gradient = of_kind(kind, 2)
    expected = one_by_one(layer, x, gradient, num_images=3)
    _, found = by_rule(layer.float(), x.float() if x.is_floating_point() else x, gradient.float())
    for name, value in expected.items():
        close(found[name].instantiated().double(), value, tolerance=1e-5)


@KINDS
@NUM_ROWS
@pytest.mark.parametrize("keep", [True, False])
def test_norms_and_weighted_sums_are_those_of_the_whole_gradients(
    kind: str, num_rows: int, keep: bool
) -> None:
    layer, x, gradient = of_kind(kind, num_rows)
    task = Task(num_images=3, needs_input=False, keep=keep)
    _, found = by_rule(layer, x, gradient, task)
    factor = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    for sample in found.values():
        whole = sample.instantiated().flatten(1)
        torch.testing.assert_close(sample.squares(), whole.square().sum(1))
        expected = (factor @ whole).view(sample.instantiated().shape[1:])
        torch.testing.assert_close(sample.weighted_sum(factor), expected)


@KINDS
@pytest.mark.parametrize("broken", [float("inf"), float("nan"), 3e38])
def test_an_image_that_overflows_leaves_every_bit_of_the_others(kind: str, broken: float) -> None:
    layer, x, gradient = of_kind(kind, 1)
    layer, gradient = layer.float(), gradient.float()
    x = x.float() if x.is_floating_point() else x
    into, found = by_rule(layer, x, gradient)
    gradient[1] = broken
    if x.is_floating_point():
        x[1] = broken
    into_broken, found_broken = by_rule_of_broken(layer, x, gradient)
    others = torch.tensor([0, 2])
    if into is not None and into_broken is not None:
        assert torch.equal(into[others], into_broken[others])
    factor = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    for name, sample in found.items():
        changed = found_broken[name]
        assert torch.equal(sample.instantiated()[others], changed.instantiated()[others])
        assert torch.equal(sample.squares()[others], changed.squares()[others])
        assert torch.equal(sample.weighted_sum(factor), changed.weighted_sum(factor))


def by_rule_of_broken(
    layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor | None, dict[str, SampleGradient]]:
    rule = rule_for(layer)
    assert rule is not None
    with torch.no_grad():
        _, saved = rule.forward(layer, x)
        return rule.backward(layer, gradient, saved, TASK)


@given(data=st.data())
def test_both_ways_of_a_convolution_equal_the_loop(data: st.DataObject) -> None:
    small, kernel = st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 3))
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    layer = nn.Conv2d(
        data.draw(small),
        data.draw(small),
        data.draw(kernel),
        stride=data.draw(pair),
        padding=data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        dilation=data.draw(pair),
        bias=False,
    ).double()
    num_images, num_rows = data.draw(small), data.draw(st.integers(1, 3))
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    span = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    assume(all(s + 2 * p > r for s, p, r in zip(size, layer.padding, span, strict=True)))
    x = draw(num_images * num_rows, layer.in_channels, *size)
    gradient = draw(*layer(x).shape, seed=1)
    expected = one_by_one(layer, x, gradient, num_images=num_images)["weight"]
    for way in (_by_groups, _by_products):
        torch.testing.assert_close(way(layer, x, gradient, num_images).instantiated(), expected)


@pytest.mark.parametrize("kind", ["conv 3x3", "conv 3x3, large map", "conv 1x1", "group norm"])
def test_other_memory_formats_give_the_same_gradients(kind: str) -> None:
    layer, x, gradient = of_kind(kind, 2)
    _, expected = by_rule(layer, x, gradient)
    layouts: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    ]
    for layout in layouts:
        _, found = by_rule(layer, layout(x), layout(gradient))
        for name, sample in expected.items():
            close(found[name].instantiated(), sample.instantiated(), tolerance=1e-12)


class OwnConvolution(nn.Conv2d):
    """A subclass may compute anything."""


@pytest.mark.parametrize(
    "layer",
    [
        OwnConvolution(1, 1, 3),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Embedding(3, 2, padding_idx=0),
        nn.Embedding(3, 2, max_norm=1.0),
        nn.Embedding(3, 2, scale_grad_by_freq=True),
        nn.LayerNorm(3, bias=False),
        nn.PReLU(),
        nn.LSTM(2, 2),
    ],
    ids=lambda layer: repr(layer),
)
def test_a_layer_that_may_compute_something_else_has_no_rule(layer: nn.Module) -> None:
    assert rule_for(layer) is None
