"""Bytes for a site's share of noise: secret and new for each round, unless a seed is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.site import privacy as site_privacy
from phoenix_secure.federation.site.privacy import site_noise_entropy
from phoenix_secure.rng import SeedTree

NOISE = ["privacy.unit=record", "privacy.noise_multiplier=1"]


def drawn(*overrides: str, round_number: int = 1, size: int = 64) -> bytes:
    config = load_config(None, [*NOISE, *overrides])
    return site_noise_entropy(config, SeedTree(5), site="site-01")(round_number)(size)


def test_secret_bytes_are_new_every_time_and_follow_the_operating_system_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len({drawn() for _ in range(8)}) == 8
    monkeypatch.setattr(site_privacy, "os_entropy", lambda size: b"k" * size)
    assert drawn() == drawn(round_number=2)  # neither seed nor round has a part in them


def test_a_stream_goes_on_and_never_repeats() -> None:
    config = load_config(None, NOISE)
    entropy = site_noise_entropy(config, SeedTree(5), site="site-01")(1)
    parts = [entropy(16) for _ in range(1000)]
    assert len(set(parts)) == 1000
    counts = np.bincount(np.frombuffer(b"".join(parts), np.uint8), minlength=256)
    assert chisquare(counts).pvalue > 1e-6


def test_seeded_bytes_repeat_and_differ_by_round() -> None:
    seeded = "privacy.noise_source=seeded"
    assert drawn(seeded) == drawn(seeded)
    assert drawn(seeded) != drawn(seeded, round_number=2)
