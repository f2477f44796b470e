"""Gradients of single images, layer by layer, in one ordinary batched pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.layer_rules import LayerRule, Task, rule_for
from phoenix_secure.privacy.sample_gradients import Instantiated, SampleGradient, Space

__all__ = ["LayerGradients", "unknown_layer"]

# Numbers of single images' gradients that stay in memory for one chunk: half a GiB in float32.
_KEPT_NUMBERS = 1 << 27


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Layer:
    """A layer with parameters; ``names`` are those by which the network calls them.

    space    for one chunk's gradients of ``weight``; None where they are too large to stay
    """

    name: str
    module: nn.Module
    names: Mapping[str, str]
    rule: LayerRule
    space: Space | None


@dataclass(kw_only=True, slots=True, eq=False)
class _Pass:
    """One chunk's pass; ``anchor`` makes every output want a gradient."""

    num_images: int
    num_rows: int
    anchor: torch.Tensor
    found: dict[str, SampleGradient] = field(default_factory=dict)

    def add(self, name: str, sample: SampleGradient) -> None:
        """A layer that is run twice has the sum of both."""
        before = self.found.get(name)
        self.found[name] = (
            sample
            if before is None
            else Instantiated(before.instantiated() + sample.instantiated())
        )


class LayerGradients:
    """Images' gradients for a network of which every layer with parameters has a rule.

    Guarantee:  a parameter that is used outside its layer is an error and never a part that is
                missing: autograd, to which layers hide theirs, would see it.
    """

    def __init__(self, network: nn.Module, *, physical_batch: int) -> None:
        """Raises ValueError for a network of which ``unknown_layer`` names a layer."""
        self._network = network
        self._parameters = dict(network.named_parameters())
        self._layers = _layers_of(network, physical_batch=physical_batch)

    def __call__(self, rows: ImageRows) -> tuple[Mapping[str, SampleGradient], torch.Tensor]:
        anchor = torch.zeros((), device=rows.inputs.device, requires_grad=True)
        state = _Pass(num_images=rows.num_images, num_rows=rows.num_rows, anchor=anchor)
        for parameter in self._parameters.values():
            parameter.grad = None  # what stands there afterwards is of this pass
        with self._replaced(state):
            losses = self._losses(rows)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._require_nothing_outside()
        for name, parameter in self._parameters.items():
            if name not in state.found:  # not on the way to the loss
                state.found[name] = Instantiated(
                    parameter.new_zeros(()).expand(rows.num_images, *parameter.shape)
                )
        return state.found, losses.detach()

    def _losses(self, rows: ImageRows) -> torch.Tensor:
        """The mean loss of each image (n,)."""
        flat: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor.flatten(0, 1)  # noqa: E731
        labels = None if rows.labels is None else flat(rows.labels)
        output = self._network(flat(rows.inputs), flat(rows.times), class_labels=labels).sample
        error = (output - flat(rows.target)).square().flatten(1).mean(dim=1)
        weighted: torch.Tensor = flat(rows.weight) * error
        return weighted.view(rows.num_images, rows.num_rows).mean(dim=1)

    @contextmanager
    def _replaced(self, state: _Pass) -> Iterator[None]:
        """Run layers by their rules."""
        for layer in self._layers:
            layer.module.forward = partial(_run, layer, state)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.module.forward

    def _require_nothing_outside(self) -> None:
        outside = next((n for n, p in self._parameters.items() if p.grad is not None), None)
        if outside is not None:
            raise ConfigError(
                f"parameter {outside} is used outside its layer, where gradients of single "
                "images cannot be told apart: set privacy.gradients to vmap"
            )


def _run(layer: _Layer, state: _Pass, x: torch.Tensor) -> torch.Tensor:
    num_rows = state.num_images * state.num_rows
    if len(x) != num_rows:
        raise ConfigError(
            f"layer {layer.name} takes {len(x)} rows for {num_rows} of images: which row is "
            "whose cannot be told; set privacy.gradients to vmap"
        )
    output: torch.Tensor = _ByRule.apply(x, state.anchor, layer, state)  # type: ignore[no-untyped-call]
    return output


def unknown_layer(network: nn.Module) -> str | None:
    """The name of a layer with parameters of its own that has no rule; None where all have."""
    return next((n for n, m in _with_parameters(network) if rule_for(m) is None), None)


def _with_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            yield name, module


def _layers_of(network: nn.Module, *, physical_batch: int) -> list[_Layer]:
    """The layers of ``network``, with space for the gradients of as many as memory is for, the
    smallest first."""
    # Two layers may share a parameter, which has one name.
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    found = dict(_with_parameters(network))
    rules = {name: rule_for(module) for name, module in found.items()}
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters(recurse=False))
        for name, module in found.items()
    }
    left, kept = _KEPT_NUMBERS // physical_batch, set()
    for name in sorted(sizes, key=sizes.__getitem__):
        left -= sizes[name]
        if left >= 0:
            kept.add(name)
    layers = []
    for name, module in found.items():
        rule = rules[name]
        if rule is None:
            raise ValueError(f"layer {name} ({type(module).__name__}) has no rule")
        own = module.named_parameters(recurse=False)
        layers.append(
            _Layer(
                name=name,
                module=module,
                names={local: name_of[id(parameter)] for local, parameter in own},
                rule=rule,
                space=Space() if name in kept else None,
            )
        )
    return layers


class _ByRule(torch.autograd.Function):
    """One run of one layer. Parameters are no inputs: autograd leaves them alone."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, anchor: torch.Tensor, layer: _Layer, state: _Pass
    ) -> torch.Tensor:
        output, saved = layer.rule.forward(layer.module, x)
        ctx.save_for_backward(*saved)
        ctx.layer, ctx.state = layer, state
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        layer, state = ctx.layer, ctx.state
        first = layer.names.get("weight") not in state.found  # its space would be written over
        task = Task(
            num_images=state.num_images,
            needs_input=ctx.needs_input_grad[0],
            keep=layer.space is not None,
            space=layer.space if first else None,
        )
        # What is kept of them until images are clipped must not keep the graph behind them.
        saved = tuple(tensor.detach() for tensor in ctx.saved_tensors)
        into, found = layer.rule.backward(layer.module, gradient.detach(), saved, task)
        for name, sample in found.items():
            state.add(layer.names[name], sample)
        return into, None, None, None
