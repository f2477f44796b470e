"""Shared images: sizes, sources, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import SharingConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import CheckpointError, ConfigError, DataError
from phoenix_secure.federation.heterogeneity.checks import check_deployment, check_strategies
from phoenix_secure.federation.heterogeneity.generator import sample_from_run
from phoenix_secure.federation.heterogeneity.sharing import (
    load_shared,
    mix,
    share_of,
    shared_size,
)
from phoenix_secure.federation.run.summary import RunSummary
from phoenix_secure.rng import SeedTree

PUBLIC = ["sharing.source=public", "sharing.name=mnist-5k"]


def numbered(size: int) -> SiteImages:
    """Images whose first pixel is their number."""
    images = np.zeros((size, 1, 8, 8), np.uint8)
    images[:, 0, 0, 0] = np.arange(size)
    return SiteImages(images=images, labels=np.arange(size, dtype=np.int64) % 10)


@given(st.integers(1, 200), st.floats(0, 1), st.integers(0, 2**31))
def test_a_share_has_exactly_alpha_of_the_shared_images_each_at_most_once(size, alpha, seed):
    share = share_of(numbered(size), alpha=alpha, rng=np.random.default_rng(seed))
    if round(alpha * size) == 0:
        assert share is None
        return
    numbers = share.images[:, 0, 0, 0]
    assert len(numbers) == round(alpha * size) == len(set(numbers.tolist()))
    assert np.array_equal(share.labels, numbers % 10)


@given(st.integers(1, 10**6), st.floats(0.001, 1))
def test_beta_is_the_size_of_the_shared_set_over_that_of_all_sites(num_images, beta) -> None:
    size = shared_size(SharingConfig(beta=beta), num_site_images=num_images)
    assert size == max(1, round(beta * num_images))


def test_between_machines_the_size_must_be_given() -> None:
    assert shared_size(SharingConfig(num_images=30), num_site_images=None) == 30
    with pytest.raises(ConfigError, match=r"set sharing\.num_images"):
        shared_size(SharingConfig(), num_site_images=None)


def test_a_site_trains_on_its_own_images_and_its_share() -> None:
    mixed = mix(numbered(3), numbered(2))
    assert mixed.images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert mixed.labels.tolist() == [0, 1, 2, 0, 1]
    unlabelled = SiteImages(images=numbered(2).images, labels=None)
    assert mix(numbered(3), unlabelled).labels is None
    own = numbered(3)
    assert mix(own, None) is own


def load(overrides: list[str], *, size: int = 40, cache_dir: Path, **others):
    config = load_config(None, ["data.name=digits", *overrides])
    return load_shared(
        config,
        size=size,
        form=(1, 16),
        class_names=tuple("0123456789"),
        seeds=SeedTree(1),
        cache_dir=cache_dir,
        **others,
    )


def test_a_public_set_is_resized_even_over_its_classes_and_named(tmp_path: Path) -> None:
    shared = load(PUBLIC, cache_dir=tmp_path)
    assert shared.images.images.shape == (40, 1, 16, 16)
    assert np.bincount(shared.images.labels).tolist() == [4] * 10
    assert shared.facts["raw_private_images"] is False
    assert shared.facts["name"] == "mnist-5k"
    assert shared.facts["images_at_each_site"] == 20
    again = load(PUBLIC, cache_dir=tmp_path)
    assert np.array_equal(again.images.images, shared.images.images)


def test_the_sites_own_data_set_is_not_called_public(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set sharing\.part=test"):
        load(["sharing.source=public", "sharing.name=digits"], cache_dir=tmp_path)


def test_a_set_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lower sharing\.beta"):
        load(PUBLIC, size=6000, cache_dir=tmp_path)


def test_raw_private_images_need_the_words_and_are_marked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sharing\.accept_raw_private_images=true"):
        load(["sharing.source=raw-private"], cache_dir=tmp_path)
    words = ["sharing.source=raw-private", "sharing.accept_raw_private_images=true"]
    sites = numbered(200)
    sites = SiteImages(images=np.repeat(sites.images, 2, 2).repeat(2, 3), labels=sites.labels)
    shared = load(words, cache_dir=tmp_path, site_images=sites)
    assert np.bincount(shared.images.labels).tolist() == [4] * 10
    assert shared.facts["raw_private_images"] is True
    assert "40 private images" in shared.facts["warning"]
    with pytest.raises(ConfigError, match="in a simulation only"):
        load(words, cache_dir=tmp_path)


def test_raw_private_images_are_refused_under_differential_privacy() -> None:
    words = ["sharing.source=raw-private", "sharing.accept_raw_private_images=true"]
    privacy = ["privacy.unit=record", "privacy.epsilon=5"]
    with pytest.raises(ConfigError, match="gives away the images"):
        check_strategies(load_config(None, words + privacy))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["filtering.reference=shared"], r"set sharing\.source"),
        (["privacy.unit=record", "privacy.epsilon=5"], "does not cover"),
        (["privacy.unit=site", "privacy.epsilon=5"], "leave without noise"),
        (["filtering.nearest_k=50", "filtering.num_images=20"], "must exceed"),
        (["diffusion.num_timesteps=50", "filtering.num_steps=60"], "lower it"),
    ],
)
def test_filtering_that_breaks_a_guarantee_or_cannot_work_is_refused(overrides, message) -> None:
    config = load_config(None, ["filtering.threshold=0.3", *overrides])
    with pytest.raises(ConfigError, match=message):
        check_strategies(config)


def test_filtering_on_public_images_is_allowed_under_record_privacy() -> None:
    overrides = ["filtering.threshold=0.3", "filtering.reference=shared", *PUBLIC]
    overrides += ["sharing.num_images=40", "privacy.unit=record", "privacy.epsilon=5"]
    check_strategies(load_config(None, overrides))


@pytest.mark.parametrize("unit", ["record", "site"])
def test_under_privacy_the_shared_images_do_not_follow_from_the_number_of_private_ones(
    unit: str,
) -> None:
    privacy = [f"privacy.unit={unit}", "privacy.epsilon=5"]
    with pytest.raises(ConfigError, match=r"sharing\.num_images"):
        check_strategies(load_config(None, [*PUBLIC, *privacy]))
    check_strategies(load_config(None, [*PUBLIC, *privacy, "sharing.num_images=40"]))


def test_between_machines_a_plan_names_no_path() -> None:
    check_deployment(load_config(None, PUBLIC))
    for overrides in (
        ["sharing.source=public", "sharing.name=npz", "sharing.path=/etc/x.npz"],
        ["sharing.source=generator", "sharing.path=/srv/run"],
    ):
        with pytest.raises(ConfigError, match="must be public"):
            check_deployment(load_config(None, overrides))


@pytest.mark.parametrize("source", ["public", "generator"])
def test_a_source_without_its_place_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match=f"source {source} needs"):
        load_config(None, [f"sharing.source={source}"])


def summary_of(guarantee: dict) -> dict:
    """The summary of a run with this guarantee."""
    summary = RunSummary.of_rounds([], num_rounds=1, num_sites=5, num_parameters=10, terms=None)
    return replace(summary, guarantee=guarantee).to_dict()


def test_a_folder_that_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        sample_from_run(tmp_path, num_images=2, seeds=SeedTree(0), accept_non_private=False)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(CheckpointError, match="not a finished run"):
        sample_from_run(tmp_path, num_images=2, seeds=SeedTree(0), accept_non_private=False)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a finished run"):
        sample_from_run(tmp_path, num_images=2, seeds=SeedTree(0), accept_non_private=False)


def test_a_generator_without_differential_privacy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "summary.json").write_text(
        json.dumps(summary_of({"unit": "none", "epsilon": None}))
    )
    with pytest.raises(ConfigError, match="without differential privacy"):
        sample_from_run(tmp_path, num_images=2, seeds=SeedTree(0), accept_non_private=False)
