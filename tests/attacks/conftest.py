"""Toy denoisers: a random one, and ones trained on the digits of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from sklearn.datasets import load_digits

from built_once import built_once

NUM_TIMESTEPS = 200


def linear_alpha_bar(num_timesteps: int = NUM_TIMESTEPS) -> np.ndarray:
    betas = np.linspace(1e-3, 0.08, num_timesteps)
    return np.cumprod(1 - betas)


@pytest.fixture(scope="session")
def alpha_bar() -> np.ndarray:
    return linear_alpha_bar()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


class RandomDenoiser:
    """tanh(W z + b + t-dependent shift): smooth, non-linear, not trained on anything."""

    def __init__(self, shape: tuple[int, ...], *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        width = int(np.prod(shape))
        self.weights = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float64)
        self.bias = rng.standard_normal(width)
        self.shift = rng.standard_normal(width)
        self.calls: list[tuple[int, int]] = []

    def __call__(self, z: np.ndarray, t: np.ndarray) -> np.ndarray:
        assert z.dtype == np.float32
        assert t.dtype == np.int64
        assert t.shape == (len(z),)
        self.calls.append((len(z), int(t[0])))
        flat = z.reshape(len(z), -1).astype(np.float64)
        moved = flat @ self.weights.T + self.bias + np.outer(t / NUM_TIMESTEPS, self.shift)
        return np.tanh(moved).reshape(z.shape)


@pytest.fixture
def random_denoiser() -> RandomDenoiser:
    return RandomDenoiser((2, 4, 4))


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (7, 2, 4, 4)).astype(np.float32)


@dataclass(frozen=True)
class Trained:
    """A torch network behind the numpy convention, and which digits it saw."""

    network: torch.nn.Module
    members: np.ndarray
    non_members: np.ndarray
    reference: np.ndarray

    def eps(self, z: np.ndarray, t: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.network(torch.from_numpy(z), torch.from_numpy(t)).numpy()


class DigitNet(torch.nn.Module):
    """An MLP on 8 x 8 digits with a sinusoidal time embedding."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [(64 + 16, width), (width, width), (width, 64)]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(*size) for size in sizes)
        for layer in self.layers:
            bound = layer.in_features**-0.5
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        frequencies = torch.exp(torch.linspace(0, -5, 8))
        angles = t[:, None].float() * frequencies
        h = torch.cat([z.flatten(1), angles.sin(), angles.cos()], dim=1)
        h = torch.nn.functional.silu(self.layers[0](h))
        h = h + torch.nn.functional.silu(self.layers[1](h))
        return self.layers[2](h).reshape(z.shape)


def all_digits() -> np.ndarray:
    """(1797, 1, 8, 8) float32 in [-1, 1], exact duplicates removed, in a fixed random order."""
    x = (load_digits().images / 8 - 1).astype(np.float32)[:, None]
    x = np.unique(x.reshape(len(x), -1), axis=0).reshape(-1, 1, 8, 8)
    return x[np.random.default_rng(5).permutation(len(x))]


def train_digits(
    train: np.ndarray, *, num_steps: int, width: int, seed: int, once: bool = False
) -> torch.nn.Module:
    """DDPM training with Adam; ``once`` shows each image in exactly one step."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    network = DigitNet(width, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    bar = torch.from_numpy(linear_alpha_bar()).float()
    data = torch.from_numpy(train)
    size = max(1, len(train) // num_steps) if once else 64
    for step in range(num_steps):
        if once:
            batch = data[step * size : (step + 1) * size]
        else:
            batch = data[torch.randint(len(data), (size,), generator=generator)]
        t = torch.randint(len(bar), (len(batch),), generator=generator)
        noise = torch.randn(batch.shape, generator=generator)
        signal = bar[t].sqrt()[:, None, None, None]
        z = signal * batch + (1 - bar[t]).sqrt()[:, None, None, None] * noise
        loss = ((network(z, t) - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def trained_once(
    factory: pytest.TempPathFactory, name: str, train: np.ndarray, **how: Any
) -> torch.nn.Module:
    """``train_digits``, by one of the parallel test processes for all."""

    def build(folder: Path) -> None:
        save_model(train_digits(train, **how), str(folder / "network.safetensors"))

    folder = built_once(factory, name, build)
    network = DigitNet(how["width"], torch.Generator().manual_seed(0))
    load_model(network, str(folder / "network.safetensors"))
    return network.eval()


@pytest.fixture(scope="session")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """60 members seen thousands of times each."""
    digits = all_digits()
    network = trained_once(
        tmp_path_factory, "overfitted-toy", digits[:60], num_steps=2500, width=256, seed=3
    )
    return Trained(
        network=network,
        members=digits[:60],
        non_members=digits[60:300],
        reference=digits[300:900],
    )


@pytest.fixture(scope="session")
def overfitted_shadow(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained as ``overfitted`` was, on digits that model has nothing to do with."""
    digits = all_digits()
    network = trained_once(
        tmp_path_factory, "shadow-toy", digits[1000:1060], num_steps=2500, width=256, seed=8
    )
    return Trained(
        network=network,
        members=digits[1000:1060],
        non_members=digits[1100:1160],
        reference=digits[1200:],
    )


@pytest.fixture(scope="session")
def seen_once() -> Trained:
    """600 members, each in one step only: nothing to find."""
    digits = all_digits()
    network = train_digits(digits[:600], num_steps=100, width=128, seed=4, once=True)
    return Trained(
        network=network,
        members=digits[:600],
        non_members=digits[600:1200],
        reference=digits[1200:],
    )


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """This file, for tests that train a network of their own."""
    return SimpleNamespace(
        DigitNet=DigitNet,
        all_digits=all_digits,
        linear_alpha_bar=linear_alpha_bar,
        train_digits=train_digits,
    )
