"""A site's streams: the same after a restart, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.site.own_randomness import own_seeds
from phoenix_secure.rng import SeedTree


def draw(seeds: SeedTree) -> bytes:
    return seeds.child("site", "site-01", "round", 1, "batches").numpy().bytes(32)


def test_streams_follow_the_secret_and_the_plan_and_nothing_else(tmp_path: Path) -> None:
    first = draw(own_seeds(tmp_path / "training.key", plan="a" * 64))
    assert (tmp_path / "training.key").stat().st_mode & 0o077 == 0
    again = draw(own_seeds(tmp_path / "training.key", plan="a" * 64))
    other_plan = draw(own_seeds(tmp_path / "training.key", plan="b" * 64))
    other_site = draw(own_seeds(tmp_path / "other.key", plan="a" * 64))
    assert first == again
    assert len({first, other_plan, other_site}) == 3


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    seeds = own_seeds(tmp_path / "training.key", plan="a" * 64)
    key = (tmp_path / "training.key").read_bytes()
    text = repr(seeds) + repr(seeds.child("site", "x"))
    assert str(int.from_bytes(key, "big")) not in text
    assert key.hex() not in text


def test_a_secret_is_no_seed_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """The number behind a key, as a public seed, gives other streams."""
    key = bytes(31) + b"\7"
    assert draw(SeedTree.of_secret(key)) != draw(SeedTree(7))
    with pytest.raises(ValueError, match="32 bytes"):
        SeedTree.of_secret(b"short")
    (tmp_path / "training.key").write_bytes(b"short")
    (tmp_path / "training.key").chmod(0o600)
    with pytest.raises(ConfigError, match="must hold 32 bytes"):
        own_seeds(tmp_path / "training.key", plan="a" * 64)
