from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.keyed_split import (
    image_tags,
    keyed_order,
    keyed_roles,
    keyed_split,
    open_split_key,
    seeded_split_key,
    site_of_tag,
)
from phoenix_secure.data.split import Split, load_split, make_split, save_split
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.rng import SeedTree

KEY = bytes(range(32))


def image_set(images: np.ndarray, labels: np.ndarray | None = None) -> ImageSet:
    return ImageSet(
        name="npz",
        images=images,
        labels=labels,
        class_names=() if labels is None else tuple("abc"),
        source="test",
        licence="test",
    )


@st.composite
def folders(draw: st.DrawFn) -> ImageSet:
    """Two to forty images of few pixels and few grey values, so that equal ones are common."""
    num = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = (rng.integers(0, draw(st.integers(1, 4)), (num, 1, 2, 2)) * 60).astype(np.uint8)
    return image_set(images, rng.integers(0, 3, num) if draw(st.booleans()) else None)


def parts_of(split: Split, of: ImageSet) -> dict[str, list[tuple[bytes, int]]]:
    """Each part as the images themselves, in its order."""

    def record(index: int) -> tuple[bytes, int]:
        return of.images[index].tobytes(), -1 if of.labels is None else int(of.labels[index])

    return {
        name: [record(i) for i in getattr(split, name)]
        for name in ("members", "held_out", "reference", "unused")
    }


@settings(deadline=None)
@given(
    folders(),
    st.data(),
    st.sampled_from([(0.1, 0.1), (0.3, 0.0), (0.0, 0.4)]),
    st.sampled_from([1.0, 0.5]),
)
def test_one_image_more_changes_one_entry_of_one_part(
    whole: ImageSet, data: st.DataObject, parts: tuple[float, float], fraction: float
) -> None:
    gone = data.draw(st.integers(0, whole.num_images - 1))
    key = data.draw(st.binary(min_size=32, max_size=32))
    order = data.draw(st.permutations([i for i in range(whole.num_images) if i != gone]))
    without = whole.take(order)  # the other files in any order: names are nobody's business

    def split(of: ImageSet) -> dict[str, list[tuple[bytes, int]]] | None:
        try:
            found = keyed_split(
                of, key=key, held_out=parts[0], reference=parts[1], fraction=fraction, seed=0
            )
        except DataError:
            return None
        return parts_of(found, of)

    before, after = split(whole), split(without)
    if before is None or after is None:
        # No member: that cannot follow from more than one image either.
        assert after is None
        assert before is None or len(before["members"]) == 1
        return
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 1
    (part,) = changed
    longer, shorter = before[part], after[part]
    assert len(longer) == len(shorter) + 1
    removed = (
        whole.images[gone].tobytes(),
        -1 if whole.labels is None else int(whole.labels[gone]),
    )
    # Taking that entry out leaves the rest in the order it was in.
    place = longer.index(removed)
    assert longer[:place] + longer[place + 1 :] == shorter


@settings(deadline=None)
@given(folders(), st.integers(1, 9), st.data())
def test_one_image_more_moves_no_other_between_sites(
    whole: ImageSet, num_sites: int, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, whole.num_images - 1))
    rest = np.delete(np.arange(whole.num_images), gone)
    sites = site_of_tag(image_tags(whole.images, key=KEY), num_sites=num_sites)
    assert set(sites) <= set(range(num_sites))
    again = site_of_tag(image_tags(whole.images[rest], key=KEY), num_sites=num_sites)
    assert np.array_equal(sites[rest], again)


@settings(deadline=None)
@given(folders())
def test_equal_images_share_part_and_site_whatever_their_labels(whole: ImageSet) -> None:
    tags = image_tags(whole.images, key=KEY)
    roles = keyed_roles(tags, held_out=0.3, reference=0.3, fraction=0.7)
    sites = site_of_tag(tags, num_sites=4)
    for image in whole.images:
        alike = (whole.images == image).all(axis=(1, 2, 3))
        assert len(set(roles[alike])) == len(set(sites[alike])) == 1


def test_the_stratified_split_moves_many_images_for_one() -> None:
    """What the keyed split is for; and a check that the property above could fail."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, 1, 4, 4)).astype(np.uint8)

    def members(of: np.ndarray) -> set[bytes]:
        split = make_split(
            None,
            len(of),
            held_out=0.1,
            reference=0.1,
            rng=np.random.default_rng(1),
            dataset_digest="ab" * 32,
            seed=1,
        )
        return {of[i].tobytes() for i in split.members}

    assert len(members(images) ^ members(images[1:])) > 20


def test_a_tag_is_the_hmac_of_label_form_and_pixels() -> None:
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    tags = image_tags(images, key=KEY)
    for image, tag in zip(images, tags, strict=True):
        content = b"phoenix-secure/image-tag/v1:uint8(3, 4, 4):" + image.tobytes()
        expected = hmac.new(KEY, content, hashlib.sha256).digest()
        assert b"".join(int(word).to_bytes(8, "big") for word in tag) == expected
    assert not np.array_equal(image_tags(images.reshape(2, 3, 2, 8), key=KEY), tags)
    assert not (image_tags(images, key=bytes(32)) == tags).any()


def test_tags_refuse_other_keys_and_pixels() -> None:
    images = np.zeros((1, 1, 2, 2), np.uint8)
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            image_tags(images, key=wrong)
    with pytest.raises(ValueError, match="uint8"):
        image_tags(images.astype(np.float32), key=KEY)


def test_sizes_are_binomial_around_the_fractions(mnist_5k: ImageSet) -> None:
    split = keyed_split(mnist_5k, key=KEY, held_out=0.2, reference=0.1, fraction=0.5, seed=0)
    sizes = {"held_out": 0.1, "reference": 0.05, "members": 0.35, "unused": 0.5}
    for name, probability in sizes.items():
        expected, sd = 5000 * probability, (5000 * probability * (1 - probability)) ** 0.5
        assert abs(len(getattr(split, name)) - expected) < 5 * sd
    # Part, site and place come from different quarters of the tag.
    tags = image_tags(mnist_5k.images[split.members], key=KEY)
    counts = np.bincount(site_of_tag(tags, num_sites=5), minlength=5)
    assert np.abs(counts - len(tags) / 5).max() < 5 * (len(tags) * 0.16) ** 0.5
    assert not np.array_equal(np.sort(split.members), split.members)
    assert np.array_equal(keyed_order(tags), np.arange(len(tags)))


def test_a_smaller_fraction_lies_in_a_larger_one(digits: ImageSet) -> None:
    tags = image_tags(digits.images, key=KEY)
    small, large = (keyed_roles(tags, held_out=0.1, reference=0.1, fraction=f) for f in (0.2, 0.6))
    assert np.array_equal(small[small != 3], large[small != 3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"held_out": -0.1},
        {"reference": float("nan")},
        {"held_out": 0.6, "reference": 0.4},
        {"fraction": 0.0},
        {"fraction": 1.1},
    ],
)
def test_fractions_that_leave_no_member_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        keyed_roles(np.zeros((1, 4), np.uint64), **({"held_out": 0.1, "reference": 0.1} | wrong))


def test_a_sites_key_is_secret_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "split.key"
    key = open_split_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_split_key(path) == key
    assert open_split_key(tmp_path / "other.key") != key
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_split_key(path)
    path.chmod(0o600)
    path.write_bytes(key[:31])
    with pytest.raises(ConfigError, match="32 bytes"):
        open_split_key(path)


def test_a_runs_key_is_all_of_the_seed_trees_256_bits() -> None:
    keys = [seeded_split_key(SeedTree(seed)) for seed in range(200)]
    assert len(set(keys)) == 200
    bits = np.unpackbits(np.frombuffer(b"".join(keys), np.uint8)).reshape(200, 256)
    assert (np.abs(bits.mean(axis=0) - 0.5) < 0.2).all()  # 5.6 standard deviations
    assert seeded_split_key(SeedTree(0)) == keys[0]


def test_a_keyed_split_comes_back_with_its_order(digits: ImageSet, tmp_path: Path) -> None:
    split = keyed_split(digits, key=KEY, held_out=0.1, reference=0.1, fraction=0.8, seed=3)
    path = tmp_path / "split.npz"
    save_split(split, path)
    loaded = load_split(path, image_set=digits)
    for name in ("members", "held_out", "reference", "unused"):
        assert np.array_equal(getattr(loaded, name), getattr(split, name))
    assert (loaded.scheme, loaded.seed) == ("keyed", 3)


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": np.array("random")},
        {"order": np.zeros(4, np.uint32)},
        {"order": np.arange(5, dtype=np.uint32)},
        {"order": np.arange(4)},
        {"roles": np.array([0, 1, 2, 4], np.uint8)},
        {"format": np.array("phoenix-secure/split/v3")},
    ],
)
def test_a_changed_split_file_is_refused(change: dict[str, np.ndarray], tmp_path: Path) -> None:
    whole = {
        "format": np.array("phoenix-secure/split/v2"),
        "scheme": np.array("keyed"),
        "roles": np.array([0, 1, 2, 3], np.uint8),
        "order": np.array([2, 0, 3, 1], np.uint32),
        "dataset_digest": np.array("ab" * 32),
        "seed": np.array(1),
    }
    path = tmp_path / "split.npz"
    np.savez(path, **whole)
    assert load_split(path).scheme == "keyed"
    np.savez(path, **(whole | change))
    with pytest.raises(DataError, match="not a split file"):
        load_split(path)


def test_no_member_left_is_said(digits: ImageSet) -> None:
    with pytest.raises(DataError, match="no member is left"):
        keyed_split(
            digits.take([0]), key=KEY, held_out=0.5, reference=0.499999, fraction=1e-9, seed=0
        )
