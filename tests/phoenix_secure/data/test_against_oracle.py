"""Random folder trees and arrays against a slow oracle: what is read is right, or refused."""

from __future__ import annotations

import os
import re
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.scale import to_bytes
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError

PLAIN_FOLDERS = ("cat", "dog", "2020", "latest")
FOLDERS = (*PLAIN_FOLDERS, "Train", "my_test", "val", "__MACOSX", "@eaDir", ".git")
PLAIN_FILES = ("a.png", "b.PNG", "c", "d.jpeg.png", "contest.png")
FILES = (*PLAIN_FILES, "test_1.png", "TRAIN.png", "notes.txt", "x.heic", ".h.png", "broken.png")
HIDDEN = ("__MACOSX", "@eaDir", ".git", ".h.png")
NO_PICTURES = ("notes.txt", "x.heic")

Tree = frozenset[tuple[str, ...]]


def trees(
    folders: tuple[str, ...], files: tuple[str, ...], *, depth: int
) -> st.SearchStrategy[Tree]:
    above = st.lists(st.sampled_from(folders), min_size=1, max_size=depth)
    paths = st.tuples(above, st.sampled_from(files)).map(lambda pair: (*pair[0], pair[1]))
    return st.frozensets(paths, min_size=1, max_size=8)


def build(root: Path, tree: Tree) -> dict[int, tuple[str, ...]]:
    """The tree on disk; each picture carries its number in its pixels."""
    numbers = {}
    for number, parts in enumerate(sorted(tree)):
        file = root.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        if parts[-1] in NO_PICTURES:
            file.write_bytes(b"no picture")
        elif parts[-1] == "broken.png":
            os.symlink("nowhere", file)
        else:
            Image.fromarray(np.full((4, 4), 10 + number, np.uint8)).save(file, "PNG")
            numbers[10 + number] = parts
    return numbers


def words(parts: tuple[str, ...]) -> set[str]:
    """The parts of a set that a path speaks of, letter by letter."""
    found = set()
    for name in parts:
        for word in re.split(r"[^a-z]+", name.lower()):
            found |= (
                {"train"} & {word}
                | {"test"} & {word}
                | ({"validation"} if word == "val" else set())
            )
    return found


def visible(parts: tuple[str, ...]) -> bool:
    return not any(name in HIDDEN for name in parts)


def must_refuse(tree: Tree, part: str | None) -> bool:
    seen = {parts for parts in tree if visible(parts)}
    if any(parts[-1] == "broken.png" for parts in seen):
        return True
    pictures = {parts for parts in seen if parts[-1] not in NO_PICTURES}
    if part == "all":
        return not pictures
    if part is None:
        marks = [frozenset(words(parts[-1:])) for parts in pictures]
        # Folders count even where they hold nothing that is seen.
        folders = {
            above
            for parts in tree
            for above in parts[:-1]
            if visible(parts[: parts.index(above) + 1])
        }
        return not pictures or bool(words(tuple(folders))) or len(set(marks)) > 1
    return not any(words(parts) == {part} for parts in pictures)


def check(tree: Tree, part: str | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "set"
        numbers = build(root, tree)
        refusal, found = None, None
        rules = ReadingRules(part=part)
        try:
            found = load_images("image-folder", path=str(root), cache_dir=root, rules=rules)
        except DataError as error:
            refusal = str(error)
    if found is None:
        assert "\n" not in str(refusal)
        assert tree_is_odd(tree, part), f"refused without need: {refusal}"
        return
    assert not must_refuse(tree, part)
    read = found.images[:, 0, 0, 0].tolist()
    wanted = {
        number
        for number, parts in numbers.items()
        if visible(parts) and (part in (None, "all") or words(parts) == {part})
    }
    assert sorted(read) == sorted(wanted)
    assert found.labels is None or len(found.labels) == len(read)
    for number, label in zip(
        read, [] if found.labels is None else found.labels.tolist(), strict=False
    ):
        above = [name for name in numbers[number][:-1] if part == "all" or not words((name,))]
        assert found.class_names[label] in above
        if part is None:
            assert found.class_names[label] == above[0]
    assert found.inventory is not None
    told = sum(e.count for e in (*found.inventory.passed_over, *found.inventory.not_chosen))
    unread = [parts for parts in tree if visible(parts)]
    assert told >= len(unread) - len(read)


def tree_is_odd(tree: Tree, part: str | None) -> bool:
    names = {name for parts in tree for name in parts}
    return part is not None or not names <= {*PLAIN_FOLDERS, *PLAIN_FILES}


@given(trees(PLAIN_FOLDERS, PLAIN_FILES, depth=3))
def test_plain_trees_are_read_whole(tree: Tree) -> None:
    check(tree, None)


@given(
    trees(FOLDERS, FILES, depth=3), st.sampled_from([None, "train", "test", "validation", "all"])
)
def test_odd_trees_are_read_rightly_or_refused(tree: Tree, part: str | None) -> None:
    check(tree, part)


@pytest.mark.parametrize(
    ("train", "test"), list(product(["Train", "my train"], ["my_test", "x/test", "val"]))
)
def test_the_oracle_sees_trees_that_are_read(train: str, test: str) -> None:
    """The property above is not kept by refusing everything."""
    paths = [(folder, name, "a.png") for folder in (train, test) for name in ("cat", "dog")]
    tree = frozenset(tuple("/".join(path).split("/")) for path in paths)
    assert not must_refuse(tree, "train")
    with tempfile.TemporaryDirectory() as name:
        build(Path(name), tree)
        found = load_images(
            "image-folder", path=name, cache_dir=Path(name), rules=ReadingRules(part="train")
        )
    assert (found.num_images, found.class_names) == (2, ("cat", "dog"))


def slow_bytes(values: list[float]) -> list[int] | None:
    """The reading of floats, value by value; None where there are two."""
    if all(0 <= v < 2 / 255 for v in values):
        return None  # black
    if all(0 <= v <= 1 for v in values):
        return [round(v * 255) for v in values]
    if all(-1 <= v <= 1 for v in values) and any(v <= -0.9 for v in values):
        return [round((v + 1) * 127.5) for v in values]
    return None


EDGES = st.sampled_from([0.0, -0.0, 1.0, -1.0, -1e-7, 1.0000001, -0.9, -0.89, 0.5, 1e-300])


@given(st.lists(st.floats(0, 1) | st.floats(-1, 1) | EDGES, min_size=4, max_size=4))
def test_floats_are_read_as_the_oracle_says_or_refused(values: list[float]) -> None:
    expected = slow_bytes(values)
    images = np.array(values).reshape(1, 1, 2, 2)
    if expected is None:
        with pytest.raises(DataError, match=r"\[0, 1\].*\[-1, 1\]|black"):
            to_bytes(images, window=None, name="d")
    else:
        assert to_bytes(images, window=None, name="d")[0].ravel().tolist() == expected


@given(
    st.lists(st.integers(-2, 300), min_size=4, max_size=4),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int64]),
)
def test_integers_are_kept_or_refused(values: list[int], dtype: type) -> None:
    images = np.array(values, np.int64).astype(dtype).reshape(1, 1, 2, 2)
    kept = images.ravel().tolist()
    clear = min(kept) >= 0 and 1 < max(kept) <= 255 and (dtype is np.uint8 or max(kept) > 127)
    try:
        assert to_bytes(images, window=None, name="d")[0].ravel().tolist() == kept
        assert clear
    except DataError:
        assert not clear
