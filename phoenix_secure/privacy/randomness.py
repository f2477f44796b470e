"""Sources of all randomness in private training.

All of it must be secret. An observer who knows the noise subtracts it. One who knows the sample
removes the amplification that sampling gives. One who knows timesteps, noises and dropped labels
sees one image's presence shift those of all later ones. The server knows the experiment's seed, so
production draws from the operating system. Torch's generators are no source at all: the CPU's keeps
32 bits of any seed, which can be searched.

Draws are made on the CPU, from 256 bits of key, and then moved: other devices get the same.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

__all__ = ["Randomness", "SecureRandomness", "SeededRandomness"]

Entropy = Callable[[int], bytes]

_CHUNK = 1 << 16  # values at a time: temporaries stay in the cache
_ZEROS = bytes(1 << 18)  # plaintext: the ciphertext is the key stream
_REKEY_BYTES = 1 << 36  # far below where a 128-bit counter mode can be told from random
# Terms per value in the sum below; Holohan and Braghin (2021) recommend at least 2n = 4.
_TERMS = 4


class Randomness(Protocol):
    """Draws for one site; ``name`` is what its ledger says about them."""

    @property
    def name(self) -> str: ...

    def normal(self, num: int) -> torch.Tensor:
        """``num`` independent standard normal values, float64 (num,), on the CPU."""

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        """``num`` independent uniform whole numbers in [0, below), int64 (num,), on the CPU."""

    def included(self, num: int, *, probability: float) -> np.ndarray:
        """Indices below ``num``, each present with ``probability`` independently, sorted int64."""


class _CipherRandomness:
    """AES-256 in counter mode under keys that ``entropy`` gives, kept in this object.

    Guarantee:  normal values are exact but for float64 rounding, up to 9.4 standard deviations
                (probability of more below 1e-20). Each is a sum of four independent normals,
                halved, so that the gaps between the values that float64 can take no longer tell
                noise of one sum from that of another, as in Mironov's attack on single draws
                (2012, doi:10.1145/2382196.2382264). That defeats the known attack; it is no proof
                that float64 noise is as good as real numbers.
                Inclusion compares 64-bit words with floor(probability * 2^64): exact to 2^-64.
                Whole numbers are 64-bit words modulo ``below``: within below / 2^64 of uniform.
    Source:     Holohan and Braghin (2021), arXiv:2107.10138, section 5.2 with n = 2; Box and Muller
                (1958).
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._new_key()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def normal(self, num: int) -> torch.Tensor:
        values = torch.empty(num, dtype=torch.float64)
        # New memory takes as long as the arithmetic: all chunks share theirs.
        most = max(min(num, _CHUNK), _TERMS)
        words = np.empty(_TERMS * most, dtype="<u8")
        uniform, sines = (torch.empty(count * most, dtype=torch.float64) for count in (_TERMS, 2))
        for start in range(0, num, _CHUNK):
            part = values[start : start + _CHUNK]
            size = max(part.numel(), _TERMS)
            here = uniform[: _TERMS * size]
            # In (0, 1), symmetric, never 0: log is finite and the tails reach sqrt(2 ln 2^65).
            np.add(self._fill(words[: _TERMS * size]), 0.5, out=here.numpy())
            radius, angle = here.mul_(2.0**-64).view(2, 2, size)
            radius.log_().mul_(-2).sqrt_()
            angle *= 2 * math.pi
            # torch's sine takes a tenth of numpy's time, which was most of the noise's.
            first, second = torch.sin(angle, out=sines[: 2 * size].view(2, size)).mul_(radius)
            cosines = angle.cos_().mul_(radius)
            # r (cos + sin) of one pair is a single normal again: each sine goes to another value.
            total = cosines[0].add_(cosines[1])
            for shift, sine in ((1, first), (2, second)):
                total[shift:] += sine[:-shift]
                total[:shift] += sine[-shift:]
            part.copy_(total[: part.numel()])
        return values.mul_(_TERMS**-0.5)

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        if not 0 < below <= 1 << 32:
            raise ValueError(f"expected 0 < below <= 2^32, got {below}")
        return torch.from_numpy((self._words(num) % np.uint64(below)).astype(np.int64))

    def included(self, num: int, *, probability: float) -> np.ndarray:
        _check_probability(probability)
        if probability == 1:
            return np.arange(num)
        threshold = np.uint64(math.floor(math.ldexp(probability, 64)))
        return np.flatnonzero(self._words(num) < threshold)

    def _words(self, num: int) -> np.ndarray:
        """``num`` independent uniform 64-bit words."""
        return self._fill(np.empty(num, dtype="<u8"))

    def _fill(self, words: np.ndarray) -> np.ndarray:
        """``words`` with independent uniform 64-bit words in them."""
        num = len(words)
        if self._left < 8 * num:
            self._new_key()
        self._left -= 8 * num
        content = words.view(np.uint8).data
        for start in range(0, len(content), len(_ZEROS)):
            part = content[start : start + len(_ZEROS)]
            self._stream.update_into(memoryview(_ZEROS)[: len(part)], part)
        return words

    def _new_key(self) -> None:
        cipher = Cipher(AES256(self._entropy(32)), CTR(bytes(16)))
        self._stream = cipher.encryptor()
        self._left = _REKEY_BYTES


class SecureRandomness(_CipherRandomness):
    """Draws under keys of the operating system."""

    def __init__(self, entropy: Entropy = os.urandom) -> None:
        super().__init__(entropy)

    @property
    def name(self) -> str:
        return "AES-256-CTR keyed by the operating system"


class SeededRandomness(_CipherRandomness):
    """Repeatable bit for bit, for research: whoever knows the seed removes the noise.

    No guarantee, but the same draws as in production but for the key: all 256 bits of ``seed``
    (``SeedTree.entropy()``) count.
    """

    def __init__(self, seed: int) -> None:
        secret, counter = seed.to_bytes(32, "big"), itertools.count()

        def entropy(size: int) -> bytes:
            label = b"phoenix-secure/seeded-randomness/v1:" + next(counter).to_bytes(8, "big")
            return hashlib.shake_256(label + secret).digest(size)

        super().__init__(entropy)

    @property
    def name(self) -> str:
        return "seeded, repeatable: no guarantee"


def _check_probability(probability: float) -> None:
    if not 0 < probability <= 1:
        raise ValueError(f"expected 0 < probability <= 1, got {probability}")
