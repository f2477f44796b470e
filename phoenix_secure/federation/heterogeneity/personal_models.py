"""Personal models: the shared part of the global model with one site's own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from phoenix_secure.federation.heterogeneity.exchange import Exchange
from phoenix_secure.federation.heterogeneity.memory import Remembered
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.sampling import GlobalModel

__all__ = ["PersonalModels", "apportion", "personal_state"]


def personal_state(
    state: ServerState, *, exchange: Exchange, remembered: Remembered | None
) -> ServerState:
    """``state`` with a site's personal parameters in place of the server's (None: as it is)."""
    if remembered is None or exchange.num_personal == 0:
        return state
    return replace(
        state,
        parameters=exchange.complete(
            exchange.to_sites(state.parameters), personal=remembered.personal
        ),
        ema=exchange.complete(exchange.to_sites(state.ema), personal=remembered.personal_ema),
    )


def apportion(num_images: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split ``num_images`` in proportion to ``weights`` (largest remainder; ties by name).

    >>> apportion(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    total = sum(weights.values())
    quotas = {name: num_images * weight / total for name, weight in sorted(weights.items())}
    parts = {name: int(quota) for name, quota in quotas.items()}
    missing = num_images - sum(parts.values())
    by_remainder = sorted(quotas, key=lambda name: parts[name] - quotas[name])
    return {name: part + (name in by_remainder[:missing]) for name, part in parts.items()}


class PersonalModels:
    """Samples from all sites' personal models together, each in proportion to its images.

    states     site -> state of its personal model (in a simulation; nobody else has them all)
    weights    site -> images
    """

    def __init__(
        self, model: GlobalModel, *, states: Mapping[str, ServerState], weights: Mapping[str, int]
    ) -> None:
        self._model = model
        self._states = states
        self._weights = weights

    def state_of(self, site: str) -> ServerState:
        """The shared state with the parameters of one site."""
        return self._states[site]

    def use(self, site: str) -> None:
        """Load one site's personal model into the network."""
        self._model.use(self.state_of(site))

    def sample(self, num_images: int, *, purpose: str) -> np.ndarray:
        """Images (N, C, H, W) float32 in [-1, 1], in the order of site names."""
        drawn = []
        for site, size in apportion(num_images, self._weights).items():
            if size:
                self.use(site)
                drawn.append(self._model.sample(size, purpose=f"{purpose}/{site}"))
        return np.concatenate(drawn)
