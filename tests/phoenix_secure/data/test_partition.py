"""Dealing a run's images: the old split bit for bit, and the keyed one on neighbouring sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition import DataPartition, partition_images, save_parts
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.rng import SeedTree

PRIVATE = ("privacy.unit=record", "privacy.epsilon=8")


def deal(*overrides: str, cache_dir: Path = Path("none")) -> DataPartition:
    config = load_config(None, overrides)
    return partition_images(config, seeds=SeedTree(config.seed), cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("scheme", "digest"),
    [
        ("iid", "6f97db74d18bc13701a4dfd7d85da61cecfcc4d2da32eafcec3332240acf3586"),
        ("dirichlet", "40280505b6d0597c280e3150e84ebd568932bf0ef7526d6d9a408e9e72eee2c7"),
        ("shards", "d0fbddc9cd3152d5597e1ebe738e48bc2bf218086011cd132a8d2e4c9fcc0569"),
        ("quantity", "9db781b3d620e26aeb16e37c2684aee23b4ed413aad32ad83767327f2e28b7ff"),
    ],
)
def test_without_privacy_the_parts_are_those_of_old_runs(scheme: str, digest: str) -> None:
    """Else no run folder from before could be resumed. numpy promises the streams."""
    found = deal("data.name=digits", "data.max_images=400", f"partition.scheme={scheme}")
    state = hashlib.sha256()
    for part in (*found.parts.values(), found.split.held_out, found.split.reference):
        state.update(part.astype("<i8").tobytes() + b"|")
    assert state.hexdigest() == digest
    assert found.split.scheme == "stratified"


def test_what_unlabelled_images_cannot_follow_is_named_at_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "plain.npz", images=pixels)
    data = ["data.name=npz", f"data.path={tmp_path / 'plain.npz'}"]
    data += ["data.image_size=8", "data.channels=1"]
    config = load_config("private", [*data, "partition.scheme=dirichlet"])
    with pytest.raises(ConfigError, match="has no labels") as refused:
        partition_images(config, seeds=SeedTree(0), cache_dir=tmp_path)
    fix = "partition.scheme=iid release.classes=none"
    assert f"need labelled images: set {fix}, or put the pictures" in str(refused.value)
    config = load_config("private", [*data, *fix.split()])
    assert partition_images(config, seeds=SeedTree(0), cache_dir=tmp_path).image_set.labels is None


def contents(found: DataPartition) -> dict[str, list[bytes]]:
    """Every place an image can be in, as the images themselves, in order."""
    images, split = found.image_set.images, found.split
    places = found.parts | {"held out": split.held_out, "reference": split.reference}
    return {name: [images[i].tobytes() for i in part] for name, part in places.items()}


def own(digits: ImageSet, path: Path, *, without: int | None) -> tuple[str, ...]:
    kept = np.delete(np.arange(300), [] if without is None else [without])
    np.savez(path, images=digits.images[kept], labels=digits.labels[kept], class_names=range(10))
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {"class_names": arrays["class_names"].astype(str)}))
    return ("data.name=npz", f"data.path={path}", "data.image_size=8", "data.channels=1")


def test_under_privacy_one_image_is_in_one_place_and_moves_no_other(
    digits: ImageSet, tmp_path: Path
) -> None:
    settings = (*PRIVATE, "partition.scheme=iid", "data.fraction=0.9")
    whole = contents(deal(*own(digits, tmp_path / "own.npz", without=None), *settings))
    for without in range(0, 300, 20):
        fewer = contents(deal(*own(digits, tmp_path / "own.npz", without=without), *settings))
        changed = [name for name in whole if whole[name] != fewer[name]]
        assert len(changed) <= 1  # none for an image that was not used
        for name in changed:
            gone = digits.images[without].tobytes()
            assert [each for each in whole[name] if each != gone] == fewer[name]


def test_canaries_and_their_sites_follow_from_no_image(digits: ImageSet, tmp_path: Path) -> None:
    settings = (*PRIVATE, "partition.scheme=iid", "audit.canaries=20")
    found = [
        deal(*own(digits, tmp_path / "own.npz", without=without), *settings).canaries
        for without in (None, 5)
    ]
    for name in ("images", "labels", "inclusion", "site"):
        first, second = (getattr(canaries, name) for canaries in found)
        assert np.array_equal(first, second)


@pytest.mark.parametrize("scheme", ["dirichlet", "shards", "quantity"])
def test_other_schemes_look_at_all_images(scheme: str, digits: ImageSet, tmp_path: Path) -> None:
    """Why the guarantee says "for a fixed partition" with them."""
    settings = (*PRIVATE, f"partition.scheme={scheme}")
    whole = contents(deal(*own(digits, tmp_path / "own.npz", without=None), *settings))
    # An image that is a member: taken out, it leaves a hole that others fill.
    member = next(
        i
        for i in range(300)
        if digits.images[i].tobytes() not in whole["held out"]
        and digits.images[i].tobytes() not in whole["reference"]
    )
    fewer = contents(deal(*own(digits, tmp_path / "own.npz", without=member), *settings))
    sites = [name for name in whole if name.startswith("site")]
    assert sum(whole[name] != fewer[name] for name in sites) > 1
    for name in ("held out", "reference"):
        assert whole[name] == fewer[name]


def test_settings_that_look_at_all_images_are_refused_under_privacy(
    digits: ImageSet, tmp_path: Path
) -> None:
    name, path, size, channels = own(digits, tmp_path / "own.npz", without=None)
    for wrong, message in (
        ((name, path, size), "data.channels"),
        ((name, path, size, channels, "data.max_images=50"), "data.fraction"),
        ((name, path, size, channels, "data.split=stratified"), "data.split"),
    ):
        with pytest.raises(ConfigError, match=message):
            deal(*wrong, *PRIVATE)
    with pytest.raises(ConfigError, match=r"data\.split=keyed"):
        deal(name, path, size, channels, "data.fraction=0.5")
    assert deal(name, path, size, channels, "data.split=keyed").split.scheme == "keyed"


def test_a_site_that_would_hold_nothing_is_named(digits: ImageSet, tmp_path: Path) -> None:
    settings = own(digits, tmp_path / "own.npz", without=None)
    with pytest.raises(DataError, match="would hold no image"):
        deal(
            *settings,
            *PRIVATE,
            "partition.scheme=iid",
            "partition.num_sites=200",
            "federation.min_sites=1",
        )


def test_the_inventory_is_kept_beside_the_parts(tmp_path: Path) -> None:
    save_parts(deal("data.name=digits"), tmp_path / "sites.npz")
    kept = json.loads((tmp_path / "inventory.json").read_text())
    assert (kept["num_read"], kept["num_passed_over"], kept["labels_from"]) == (1797, 0, "the set")
