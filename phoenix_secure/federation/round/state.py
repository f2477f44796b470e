"""The server's state between two rounds."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import FederationConfig

__all__ = ["ServerState"]

_LABEL = b"phoenix-secure/model-state/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerState:
    """The state after ``round_number`` rounds (0: before the first).

    Shape:      each vector is (d,) float32; a moment that the server's optimizer does not use
                is (0,). There is no generator state: every random stream is a function of the
                seed and the round.
    """

    round_number: int
    parameters: np.ndarray
    ema: np.ndarray
    momentum: np.ndarray  # of all but FedAvg
    second_moment: np.ndarray  # of FedAdam, FedYogi and extensions
    clip_factor: float = 1.0  # adaptive clip norm of the next round, in units of privacy.clip_norm

    def __post_init__(self) -> None:
        if not 0 < self.clip_factor < math.inf:
            raise ValueError("expected a finite clip_factor > 0")
        vectors = (self.parameters, self.ema, self.momentum, self.second_moment)
        sizes = [vector.size for vector in vectors]
        d = self.parameters.size
        if any(vector.dtype != np.float32 or vector.ndim != 1 for vector in vectors):
            raise ValueError("expected float32 vectors")
        if sizes[1] != d or sizes[2] not in (0, d) or sizes[3] not in (0, d):
            raise ValueError(f"expected vectors of {d} parameters, got sizes {sizes}")

    @property
    def digest(self) -> bytes:
        """SHA-256 over every bit of the state, the same on every machine."""
        digest = hashlib.sha256(_LABEL)
        digest.update(struct.pack(">Qd", self.round_number, self.clip_factor))
        for vector in (self.parameters, self.ema, self.momentum, self.second_moment):
            digest.update(struct.pack(">Q", vector.size))
            digest.update(np.ascontiguousarray(vector, "<f4").data)
        return digest.digest()

    @classmethod
    def initial(cls, parameters: np.ndarray, *, federation: FederationConfig) -> ServerState:
        """Before the first round: zero momentum, second moment tau^2 (Reddi 2021, Algorithm 2);
        for an extension's optimizer both are zero."""
        d, optimizer = parameters.size, federation.server_optimizer
        is_adaptive = optimizer in ("fedadam", "fedyogi")
        has_second = optimizer not in ("fedavg", "fedavgm")
        start = federation.server_tau**2 if is_adaptive else 0.0
        return cls(
            round_number=0,
            parameters=parameters,
            ema=parameters.copy(),
            momentum=np.zeros(0 if optimizer == "fedavg" else d, np.float32),
            second_moment=np.full(d if has_second else 0, start, np.float32),
        )
