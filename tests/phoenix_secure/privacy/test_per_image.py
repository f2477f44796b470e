"""Gradients of single images equal a loop over images, in every mode; stock Opacus does not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch import nn

from phoenix_secure.errors import ConfigError
from phoenix_secure.presets import MODEL_PRESETS
from phoenix_secure.privacy.per_image import add_clipped, check_network, clip_factor, make_gradients
from phoenix_secure.privacy.sample_gradients import Instantiated
from privacy_networks import clipped_sum, network_of, one_image_loop, rows_of

CASES = [
    pytest.param(
        name,
        num_rows,
        marks=pytest.mark.slow
        if name in ("base", "cifar10") or (num_rows > 1 and name != "tiny")
        else [],
    )
    for name in MODEL_PRESETS
    for num_rows in (1, 4)
]


def summed(network: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in network.named_parameters():
        found[name] = parameter.summed_grad
        parameter.summed_grad = None
    return found


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest error of any tensor against the largest entry of the whole gradient."""
    scale = max(float(value.abs().max()) for value in expected.values())
    return max(float((found[k] - v).abs().max()) for k, v in expected.items()) / scale


@pytest.mark.long
@pytest.mark.parametrize("kind", ["layers", "vmap"])
@pytest.mark.parametrize(("preset", "num_rows"), CASES)
def test_clipped_sum_equals_one_image_at_a_time(preset: str, kind: str, num_rows: int) -> None:
    network = network_of(preset, conditional=True)
    rows = rows_of(network, num_images=3, num_rows=num_rows, conditional=True)
    each = one_image_loop(network, rows)
    norms = [sum(float((v**2).sum()) for v in g.values()) ** 0.5 for g in each]
    clip_norm = sorted(norms)[1]  # some are clipped and some are not
    gradients = make_gradients(kind, network, physical_batch=2)  # two chunks, one filled up
    gradients.accumulate(rows, clip_norm=clip_norm)
    assert relative_error(summed(network), clipped_sum(each, clip_norm)) < 1e-4


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_channels_last_gives_the_same_gradients(kind: str) -> None:
    network = network_of("small", conditional=False).to(memory_format=torch.channels_last)
    rows = rows_of(network, num_images=3, num_rows=1, conditional=False)
    expected = clipped_sum(one_image_loop(network, rows), 0.5)
    gradients = make_gradients(kind, network, physical_batch=4)
    gradients.accumulate(rows, clip_norm=0.5)
    assert relative_error(summed(network), expected) < 1e-4


def test_losses_are_those_of_the_images() -> None:
    network = network_of("tiny", conditional=True)
    rows = rows_of(network, num_images=3, num_rows=2, conditional=True)
    found = {}
    for kind in ("layers", "vmap"):
        gradients = make_gradients(kind, network, physical_batch=2)
        found[kind] = gradients.accumulate(rows, clip_norm=1.0)
    assert found["vmap"].shape == (3,)
    torch.testing.assert_close(found["vmap"], found["layers"])


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_stock_opacus_is_wrong_for_a_convolution_of_other_layouts(layout: str) -> None:
    """A reason for rules of our own: should this fail, Opacus has been mended."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64)
    x = x.transpose(2, 3) if layout == "transposed" else x.to(memory_format=torch.channels_last)
    network = nn.Conv2d(2, 3, 3).double()
    expected = []
    for image in x:
        network.zero_grad()
        (network(image[None]) ** 2).sum().backward()
        expected.append(network.weight.grad.clone())
    stock = GradSampleModule(network, loss_reduction="sum")
    (stock(x) ** 2).sum().backward()
    error = (network.weight.grad_sample - torch.stack(expected)).abs().max()
    assert error > 0.1 * torch.stack(expected).abs().max()


def test_rows_in_the_batch_would_break_the_bound() -> None:
    """Flattened rows: one image moves the sum by up to R clip norms (stock Opacus does so)."""
    network = network_of("tiny", conditional=False)
    rows = rows_of(network, num_images=1, num_rows=4, conditional=False)
    clip_norm = 1e-3
    stock = GradSampleModule(network, loss_reduction="sum", strict=False)
    output = stock(rows.inputs[0], rows.times[0]).sample
    ((output - rows.target[0]) ** 2).flatten(1).mean(1).sum().backward()
    samples = {name: Instantiated(p.grad_sample) for name, p in network.named_parameters()}
    add_clipped(dict(network.named_parameters()), samples, clip_norm=clip_norm, num_images=4)
    broken = sum(float((v**2).sum()) for v in summed(network).values()) ** 0.5
    assert broken > 1.5 * clip_norm
    stock.remove_hooks()
    gradients = make_gradients("layers", network, physical_batch=4)
    gradients.accumulate(rows, clip_norm=clip_norm)
    kept = sum(float((v**2).sum()) for v in summed(network).values()) ** 0.5
    assert kept <= clip_norm


@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(1e-20, 1e20),
    clip_norm=st.floats(1e-6, 1e6),
    num_images=st.integers(1, 6),
    broken=st.sampled_from([None, float("nan"), float("inf")]),
)
def test_one_image_moves_the_clipped_sum_by_at_most_the_clip_norm(
    seed: int, scale: float, clip_norm: float, num_images: int, broken: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: nn.Parameter(torch.zeros(size)) for name, size in (("a", 7), ("b", 3))}
    samples = {
        name: torch.randn(num_images, len(p), generator=generator) * scale
        for name, p in parameters.items()
    }
    if broken is not None:
        samples["b"][0, 1] = broken

    def total(keep: slice) -> torch.Tensor:
        for parameter in parameters.values():
            parameter.summed_grad = None
        kept = {k: Instantiated(v[keep]) for k, v in samples.items()}
        num_kept = len(samples["a"][keep])
        add_clipped(parameters, kept, clip_norm=clip_norm, num_images=num_kept)
        return torch.cat([p.summed_grad for p in parameters.values()])

    with_it = total(slice(0, None))
    without = total(slice(1, None)) if num_images > 1 else torch.zeros(10).double()
    rounding = num_images**2 * 2.0**-53 * clip_norm
    assert float((with_it - without).norm()) <= clip_norm * (1 + 1e-5)
    if broken is not None:
        torch.testing.assert_close(with_it, without, atol=rounding, rtol=0)


def test_clip_factor_never_lifts_a_norm_above_the_bound() -> None:
    norms = torch.logspace(-10, 10, 10_001)
    for clip_norm in (1e-3, 1.0, 1e3):
        clipped = clip_factor(norms, clip_norm=clip_norm).double() * norms.double()
        assert float(clipped.max()) <= clip_norm


def test_clip_norm_that_float32_cannot_bound_is_refused() -> None:
    """Squares of 1e-23 are 0 in float32: such gradients would pass unclipped."""
    for clip_norm in (1e-10, 0.0, float("nan")):
        with pytest.raises(ValueError, match="clip_norm"):
            clip_factor(torch.ones(1), clip_norm=clip_norm)


def test_no_image_adds_nothing() -> None:
    network = network_of("tiny", conditional=False)
    rows = rows_of(network, num_images=1, num_rows=1, conditional=False).each(lambda t: t[:0])
    gradients = make_gradients("layers", network, physical_batch=4)
    assert len(gradients.accumulate(rows, clip_norm=1.0)) == 0
    assert all(p.summed_grad is None for p in network.parameters())


@pytest.mark.parametrize("old", ["hooks", "ghost"])
def test_ways_of_old_settings_are_layers_with_a_word(old: str, caplog) -> None:
    network = network_of("tiny", conditional=False)
    rows = rows_of(network, num_images=3, num_rows=2, conditional=False)
    found = []
    for kind in ("layers", old):
        make_gradients(kind, network, physical_batch=4).accumulate(rows, clip_norm=1.0)
        found.append(summed(network))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert f"{old} is no more" in caplog.text


def test_batch_normalisation_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(ConfigError, match="layer 1 is BatchNorm2d"):
        check_network(network)


def test_parameter_without_a_gradient_is_an_error() -> None:
    parameters = {"used": nn.Parameter(torch.zeros(2)), "idle": nn.Parameter(torch.zeros(2))}
    used = Instantiated(torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="parameter idle has no gradient"):
        add_clipped(parameters, {"used": used}, clip_norm=1.0, num_images=1)
