"""A kept round with its images: what a server's reconstructions are made from and compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from phoenix_secure.audit.round_loss import RoundLoss
from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.partition import DataPartition
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.rng import SeedTree

__all__ = ["Pairs", "Scene"]

_MAX_CANDIDATES = 50  # members of a site that a reconstruction is compared with


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Members with unseen partners of the same class. Shapes: (M, C, H, W), and (M,)."""

    members: NDArray[np.float32]
    partners: NDArray[np.float32]
    labels: NDArray[np.int64]  # -1 where the network takes none
    sites: NDArray[np.str_]

    def of_site(self, name: str) -> NDArray[np.bool_]:
        return np.asarray(self.sites == name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A kept round and its images."""

    state: ServerState
    config: RunConfig
    partition: DataPartition
    device: torch.device
    seeds: SeedTree

    def loss(self, *, name: str | int, num_draws: int) -> RoundLoss:
        """In float64: the inversion follows gradients down to small differences."""
        return RoundLoss(
            self.state,
            self.config,
            self.partition,
            device=self.device,
            seeds=self.seeds.child("inversion", "draws", name),
            num_draws=num_draws,
            dtype=torch.float64,
        )

    def pairs(self) -> Pairs:
        """Up to a number of members of each site, each with an unused image of its class."""
        rng = self.seeds.child("inversion", "pairs").numpy()
        image_set, labels = self.partition.image_set, self.partition.image_set.labels
        unused = list(rng.permutation(self.partition.split.held_out))
        members, partners, sites = [], [], []
        each = max(1, min(_MAX_CANDIDATES, len(unused) // max(1, len(self.partition.parts))))
        for name in sorted(self.partition.parts):
            own = rng.permutation(self.partition.parts[name])[:each]
            for index in own:
                place = next(
                    (k for k, other in enumerate(unused) if _alike(labels, index, other)), None
                )
                if place is not None:
                    members.append(int(index))
                    partners.append(int(unused.pop(place)))
                    sites.append(name)
        asked = labels if self.config.model.class_conditional else None
        return Pairs(
            members=to_unit_range(image_set.images[members]),
            partners=to_unit_range(image_set.images[partners]),
            labels=np.full(len(members), -1) if asked is None else asked[members],
            sites=np.array(sites),
        )


def _alike(labels: NDArray[np.int64] | None, first: int, second: int) -> bool:
    return labels is None or bool(labels[first] == labels[second])
