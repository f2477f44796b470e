"""One seed, one tree of independent random streams.

Each use names its own path, so that a stream depends on *what* it is for and never on the order
in which threads or sites happen to ask. A run can therefore be resumed, or its sites run in any
order, without storing the state of a generator.

These streams are reproducible by design. Those of a public seed are **not secret**, and torch's
generators keep 32 bits of any: never use them for keys, masks or differential-privacy noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["SeedTree"]


@dataclass(frozen=True, slots=True)
class SeedTree:
    """A node in the tree of seeds; the seed, which may be a secret, is never shown.

    >>> root = SeedTree(7)
    >>> root.child("site", 3, "round", 1) == root.child("site", 3).child("round", 1)
    True
    >>> root.child("a").numpy().integers(100) == root.child("b").numpy().integers(100)
    False
    """

    seed: int = field(repr=False)
    path: tuple[str | int, ...] = ()

    @classmethod
    def of_secret(cls, key: bytes) -> SeedTree:
        """The tree below 32 secret bytes: as repeatable, for whoever has them."""
        if len(key) != 32:
            raise ValueError("expected a key of 32 bytes")
        return cls(int.from_bytes(key, "big"), ("secret",))

    def child(self, *names: str | int) -> SeedTree:
        """The node below this one that ``names`` lead to."""
        return SeedTree(self.seed, self.path + names)

    def entropy(self) -> int:
        """256 bits derived from seed and path by SHA-256 (names are length-prefixed and typed)."""
        digest = hashlib.sha256(f"phoenix-secure/seed-tree/v1:{self.seed}".encode())
        for name in self.path:
            kind = "i" if isinstance(name, int) else "s"
            text = str(name).encode()
            digest.update(f"|{kind}{len(text)}:".encode() + text)
        return int.from_bytes(digest.digest(), "big")

    def numpy(self) -> np.random.Generator:
        """A fresh generator at the start of this node's stream."""
        return np.random.default_rng(self.entropy())

    def torch(self) -> torch.Generator:
        """A fresh CPU generator at the start of this node's stream.

        Draws are made on the CPU and then moved, so that CPU and CUDA runs see the same numbers.
        """
        import torch  # here: who draws from numpy alone does not wait for it to load

        generator = torch.Generator(device="cpu")
        generator.manual_seed(self.entropy() % (1 << 63))
        return generator
