"""Fitting a generator to noised class means: post-processing, which costs no privacy.

Adam minimises sum_k |E phi(G(z, k)) - mu_k|^2. The square of one batch's mean would be biased: it
adds the variance over the batch size, which rewards less variety. Two estimates are not:

    U = mean of <phi_i - mu, phi_j - mu> over i != j of one batch
    M = <a - mu, m - mu>        m: this batch's mean; a: moving average of earlier batches' means

The loss is a mixture. U is exact for the generator as it is and noisy; M has the noise of ten
batches and lags by a few steps, so that small batches, which are cheap, are enough. The weights
that are kept are a moving average, too.

Source:     Harder, Adamczewski and Park (2021), arXiv:2002.11603 (the objective); Gretton et al.
            (2012), JMLR 13, Lemma 6 (U); dos Santos et al. (2019), arXiv:1904.02762 (moving
            averages in moment matching).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from phoenix_secure.errors import TrainingError
from phoenix_secure.release.class_sums import ClassMeans
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.networks import AnyGenerator, networks_of
from phoenix_secure.rng import SeedTree

__all__ = ["GeneratorFit", "known_classes", "squared_distance"]

# A class counts as known when so many images are left after the noise: fewer are noise.
_LEAST_COUNT = 1.0
_MEMORY = 0.9  # of the average of means, and the share of M in the loss
_WARMUP = 10  # steps, of the averaged weights


def known_classes(means: ClassMeans, *, count_noise: float) -> tuple[int, ...]:
    """Classes whose noised count says that they have images: three deviations of it or more.

    Raises:     TrainingError where there is none.
    """
    least = max(_LEAST_COUNT, 3 * count_noise)
    known = tuple(int(k) for k in np.flatnonzero(means.counts >= least))
    if not known:
        raise TrainingError(
            "the noise hides every class: no noised count is above three of its deviations; raise "
            "privacy.epsilon, or let more images take part"
        )
    return known


def squared_distance(errors: torch.Tensor) -> torch.Tensor:
    """U for each class: errors phi_i - mu (K, n, D), n >= 2, to (K,)."""
    num = errors.shape[1]
    total = errors.sum(1).square().sum(1) - errors.square().sum((1, 2))
    return total / (num * (num - 1))


class GeneratorFit:
    """The fit of ``network`` to ``means``, a step at a time, on the device where it is.

    The networks of a mixture are fitted each for itself: each has the class means alone.

    penalty     of a batch of images (B, C, H, W) and their labels (B,), added to the loss

    Guarantee:  the same weights on one machine with the same number of threads, whether it was
                kept and gone on with in between or not.
    """

    def __init__(
        self,
        network: AnyGenerator,
        means: ClassMeans,
        features: FeatureMap,
        *,
        known: tuple[int, ...],
        seeds: SeedTree,
        num_threads: int,
        penalty: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        release = features.layout.release
        self._device = next(network.parameters()).device
        self.network = network
        self.known = known
        self._features = features.to(self._device)
        self._targets = torch.from_numpy(means.means).float().to(self._device)
        self._optimizer = torch.optim.Adam(
            network.parameters(), release.fit_learning_rate, fused=True
        )
        self._settings = release
        self._generator = seeds.child("release", "fit").torch()
        self._classes = torch.tensor(known)
        self._per_step = min(len(known), release.fit_batch // 4)
        self._size = release.fit_batch // self._per_step
        self._num_threads = num_threads
        self._penalty = penalty
        self._networks = networks_of(network)
        count = len(self._networks)
        self._means = self._targets.new_zeros(count, *self._targets.shape)
        self._weights = self._targets.new_zeros(count, len(self._targets), 1)
        self._averaged = [each.clone() for each in self._values()]
        self.step = 0

    @property
    def num_steps(self) -> int:
        """Steps of the whole fit."""
        return self._settings.fit_steps

    def advance(self) -> float:
        """One step; returns M, an estimate of the squared distance that may be below zero.

        Raises:     TrainingError when it is not finite.
        """
        with _threads(self._num_threads):
            value = self._advance()
        if not np.isfinite(value):
            raise TrainingError(
                "the generator's loss became infinite: lower release.fit_learning_rate"
            )
        return value

    def _advance(self) -> float:
        settings = self._settings
        self.network.train()
        rate = settings.fit_learning_rate * (1 + np.cos(np.pi * self.step / self.num_steps)) / 2
        self._optimizer.param_groups[0]["lr"] = float(rate)
        self._optimizer.zero_grad(set_to_none=True)
        found = [self._add_gradient(number) for number in range(len(self._networks))]
        self._optimizer.step()
        self.step += 1
        decay = min(settings.fit_average, self.step / (self.step + _WARMUP))
        torch._foreach_lerp_(self._averaged, self._values(), 1 - decay)
        return float(np.mean(found))

    def _add_gradient(self, number: int) -> float:
        """Of one network's loss, which no other has a part in; its M."""
        network = self._networks[number]
        chosen = self._classes
        if self._per_step < len(chosen):
            order = torch.randperm(len(chosen), generator=self._generator)
            chosen = chosen[order[: self._per_step]]
        latents = torch.randn(
            self._per_step * self._size, network.form.latent_size, generator=self._generator
        )
        labels = chosen.repeat_interleave(self._size)
        labels = labels.to(self._device)
        images = network(latents.to(self._device), labels)
        chosen = chosen.to(self._device)
        targets = self._targets[chosen]
        phi = self._features(images).view(self._per_step, self._size, -1)
        own = squared_distance(phi - targets[:, None])
        mean = phi.mean(1)
        means, weights = self._means[number], self._weights[number]
        weight = weights[chosen]
        before = torch.where(weight > 0, means[chosen] / weight.clamp(min=1e-9), mean.detach())
        moving = ((before - targets) * (mean - targets)).sum(1)
        # The gradient of M is half of that of the squared distance: ``before`` is a constant.
        share = torch.where(weight[:, 0] > 0, _MEMORY, 0.0)
        loss = ((1 - share) * own + 2 * share * moving).mean()
        if self._penalty is not None:
            loss = loss + self._penalty(images, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        means[chosen] = _MEMORY * means[chosen] + (1 - _MEMORY) * mean.detach()
        weights[chosen] = _MEMORY * weight + (1 - _MEMORY)
        return float(moving.detach().mean())

    def finish(self) -> None:
        """Put the averaged weights into the network, which is then ready to sample."""
        with torch.no_grad():
            for value, averaged in zip(self._values(), self._averaged, strict=True):
                value.copy_(averaged)
        self.network.eval()

    def to_bytes(self, *, of: str) -> bytes:
        """All that the next step depends on, as safetensors; ``of`` names what is fitted to."""
        return save(self._state(), metadata={"of": of, "step": str(self.step)})

    def restore(self, path: Path, *, of: str) -> bool:
        """Go on from a file of ``to_bytes``; False, and nothing is changed, where there is none
        that was made for ``of`` and this network."""
        if not self._optimizer.state:
            self._make_moments()
        state = self._state()
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in state}
            step = int(facts["step"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return False
        if facts.get("of") != of or any(found[k].shape != state[k].shape for k in state):
            return False
        with torch.no_grad():
            for name, value in state.items():
                value.copy_(found[name])
        self._generator.set_state(found["random"])
        self.step = step
        return True

    def _values(self) -> list[torch.Tensor]:
        """Weights and running means of the network, in order."""
        buffers = (each for each in self.network.buffers() if each.is_floating_point())
        return [each.detach() for each in (*self.network.parameters(), *buffers)]

    def _state(self) -> dict[str, torch.Tensor]:
        """Tensors that can be written to, but for ``random``, by name."""
        state = {
            "means": self._means,
            "weights": self._weights,
            "random": self._generator.get_state(),
        }
        counted = [each for each in self.network.buffers() if not each.is_floating_point()]
        named = {"now": self._values(), "averaged": self._averaged, "counted": counted}
        for kind, values in named.items():
            state |= {f"{kind}.{number}": value for number, value in enumerate(values)}
        for number, parameter in enumerate(self.network.parameters()):
            moments = self._optimizer.state[parameter]
            state |= {f"{name}.{number}": value for name, value in moments.items()}
        return state

    def _make_moments(self) -> None:
        """Adam's own state, which it makes at the first step."""
        for parameter in self.network.parameters():
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), device=self._device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch with ``count`` threads: part of what makes sums repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
