"""The root of a site's random streams: its own secret, mixed with the plan.

Batches, timesteps, noise, dropped labels and rounding of a training follow from it. Followed they
from the plan's seed alone, a server could propose two plans with one seed, call a site away in the
second, and subtract two sums that differ in this site's input and in nothing else.

A simulation has no secrets: there the root is the run's seed, so that runs repeat bit for bit.
"""

from __future__ import annotations

import os
from pathlib import Path

from phoenix_secure.rng import SeedTree
from phoenix_secure.secret_files import read_secret, write_secret

__all__ = ["own_seeds"]

_KEY_SIZE = 32


def own_seeds(path: Path, *, plan: str) -> SeedTree:
    """The streams of one site under the plan with this hash.

    path        of the site's secret, made from the operating system's randomness at first use
    Guarantee:  the same after a restart, so that a repeated round has the same input; unrelated
                under another plan or at another site.
    Raises:     ConfigError when the file can be read by others or holds something else.
    """
    if not path.exists():
        write_secret(path, os.urandom(_KEY_SIZE))
    return SeedTree.of_secret(read_secret(path, size=_KEY_SIZE)).child("plan", plan)
