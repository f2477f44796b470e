from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.split import Split, load_split, make_split, save_split
from phoenix_secure.errors import ConfigError, DataError

DIGEST = "ab" * 32


def split_of(
    labels: np.ndarray | None,
    num_images: int,
    *,
    held_out: float = 0.2,
    reference: float = 0.3,
    seed: int = 5,
    digest: str = DIGEST,
) -> Split:
    return make_split(
        labels,
        num_images,
        held_out=held_out,
        reference=reference,
        rng=np.random.default_rng(seed),
        dataset_digest=digest,
        seed=seed,
    )


@given(
    st.integers(1, 300),
    st.integers(1, 12),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.integers(0, 1000),
)
def test_parts_have_exactly_the_asked_size(
    num_images: int, num_classes: int, held_out: float, reference: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, num_classes, num_images)
    want = round(held_out * num_images), round(reference * num_images)
    if sum(want) >= num_images:
        with pytest.raises(DataError, match="leave no member"):
            split_of(labels, num_images, held_out=held_out, reference=reference)
        return
    split = split_of(labels, num_images, held_out=held_out, reference=reference)
    assert (split.held_out.size, split.reference.size) == want
    assert split.num_images == num_images
    if held_out + reference < 0.8:
        quota = np.bincount(labels, minlength=num_classes)
        for part in (split.held_out, split.reference):
            exact = quota * part.size / num_images
            assert np.abs(np.bincount(labels[part], minlength=num_classes) - exact).max() < 2


def test_every_class_is_represented_in_proportion(mnist_5k: ImageSet) -> None:
    assert mnist_5k.labels is not None
    split = split_of(mnist_5k.labels, 5000)
    assert np.bincount(mnist_5k.labels[split.held_out]).tolist() == [100] * 10
    assert np.bincount(mnist_5k.labels[split.reference]).tolist() == [150] * 10
    assert np.bincount(mnist_5k.labels[split.members]).tolist() == [250] * 10


def test_same_seed_same_split_and_another_seed_another() -> None:
    same = split_of(None, 1000), split_of(None, 1000)
    assert np.array_equal(same[0].held_out, same[1].held_out)
    assert not np.array_equal(same[0].held_out, split_of(None, 1000, seed=6).held_out)


def test_which_image_is_held_out_does_not_depend_on_its_place() -> None:
    hits = sum(split_of(None, 20, seed=s).held_out.tolist().count(0) for s in range(1000))
    assert 150 < hits < 250  # 200 expected, sd 12.6


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), float("inf")])
def test_fractions_out_of_range_are_named(value: float) -> None:
    with pytest.raises(ConfigError, match="held_out"):
        split_of(None, 10, held_out=value)
    with pytest.raises(ConfigError, match="reference"):
        split_of(None, 10, reference=value)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="one label for each"):
        split_of(np.zeros(9, dtype=np.int64), 10)


def test_saved_split_is_small_and_comes_back_whole(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 60_000)
    split = split_of(labels, 60_000, seed=2**62)
    path = tmp_path / "run" / "split.npz"
    save_split(split, path)
    loaded = load_split(path)
    for name in ("members", "held_out", "reference"):
        assert np.array_equal(getattr(loaded, name), getattr(split, name))
    assert (loaded.dataset_digest, loaded.seed) == (DIGEST, 2**62)
    assert path.stat().st_size < 25_000
    assert [file.name for file in path.parent.iterdir()] == ["split.npz"]


def test_same_split_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_split(split_of(None, 500), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_split_refuses_another_image_set(tmp_path: Path, digits: ImageSet) -> None:
    path = tmp_path / "split.npz"
    save_split(split_of(digits.labels, digits.num_images, digest=digits.digest()), path)
    assert load_split(path, image_set=digits).num_images == digits.num_images
    shuffled = digits.take(np.random.default_rng(0).permutation(digits.num_images))
    for other in (shuffled, digits.take(np.arange(100))):
        with pytest.raises(DataError, match="made for other images"):
            load_split(path, image_set=other)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    save_split(split_of(None, 200), path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="make the split again"):
            load_split(path)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign.npz"
    path.write_bytes(junk)
    with pytest.raises(DataError, match=r"make the split again|object array"):
        load_split(path)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    split = split_of(None, 50)
    save_split(split, path)
    content = path.read_bytes()
    num_refused = 0
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        )
        try:
            loaded = load_split(path)
        except DataError:
            num_refused += 1
        else:  # a byte of the archive that carries no meaning, such as a time stamp
            assert np.array_equal(loaded.members, split.members)
            assert np.array_equal(loaded.held_out, split.held_out)
            assert (loaded.dataset_digest, loaded.seed) == (DIGEST, 5)
    assert num_refused > len(content) / 2


def test_files_that_are_no_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        load_split(tmp_path / "missing.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", roles=np.zeros(3, dtype=np.uint8))
    np.savez(tmp_path / "objects.npz", format=np.array([{}], dtype=object))
    np.savez(
        tmp_path / "roles.npz",
        format=np.array("phoenix-secure/split/v1"),
        roles=np.array([0, 7], dtype=np.uint8),
        dataset_digest=np.array(DIGEST),
        seed=np.array(1),
    )
    for name in ("array.npy", "other.npz", "objects.npz", "roles.npz"):
        with pytest.raises(DataError, match=r"make the split again|object array"):
            load_split(tmp_path / name)
    with pytest.raises(DataError):
        load_split(tmp_path)


def test_split_refuses_parts_that_overlap_or_leave_gaps() -> None:
    def build(members: list[int], held_out: list[int]) -> Split:
        return Split(
            members=np.array(members, dtype=np.int64),
            held_out=np.array(held_out, dtype=np.int64),
            reference=np.array([], dtype=np.int64),
            dataset_digest=DIGEST,
            seed=0,
        )

    assert build([0, 2], [1]).num_images == 3
    for members, held_out in (([0, 1], [1]), ([0, 2], []), ([1, 0], [2]), ([], [0, 1])):
        with pytest.raises(ValueError, match="expected"):
            build(members, held_out)
