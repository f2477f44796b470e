"""Whose images they are: read from every kind of source, and never apart in any split."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.config import DataConfig, PartitionConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.groups import GroupRule, group_number, majority, next_group, of_their_own
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.keyed_split import keyed_split
from phoenix_secure.data.own_images import keyed_members
from phoenix_secure.data.partition import deal, partition_images
from phoenix_secure.data.sources import load_images
from phoenix_secure.data.split import make_split
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.rng import SeedTree

KEY = bytes(range(32))
PEOPLE = ["ann", "ben", "ann", "cem", "ben", "ann"]
PLANTED = "Jansson^Anna-19470512"


def numbers(names: list[str]) -> list[int]:
    """The definition, letter by letter."""
    label = b"phoenix-secure/group/v1:"
    words = (hmac.new(KEY, label + name.encode(), hashlib.sha256).digest()[:8] for name in names)
    return [int.from_bytes(word, "big") // 2 for word in words]


def load(path: Path, group: str, *, name: str = "image-folder", alone: bool = False) -> ImageSet:
    return load_images(
        name,
        path=str(path),
        cache_dir=path,
        image_size=8,
        channels=1,
        rules=ReadingRules(group=GroupRule.of(group, key=KEY), each_alone=alone),
    )


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def by_value(found: ImageSet) -> list[int]:
    """The groups in the order of the pictures' values."""
    assert found.groups is not None
    return found.groups[np.argsort(found.images[:, 0, 0, 0])].tolist()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("group", ["folder:1", "folder:2", "column:person", "column:Person"])
def test_folders_and_tables_say_whose_pictures_are(group: str, alone: bool, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, name in enumerate(PEOPLE):
        place = {"folder:1": name, "folder:2": f"{'ab'[number % 2]}/{name}"}.get(group, "ab"[0])
        picture(root / place / f"{number}.png", 10 * number)
    rows = [{"file_name": f"a/{n}.png", "person": name} for n, name in enumerate(PEOPLE)]
    if group.startswith("column"):
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load(root, group, alone=alone)
    assert by_value(found) == numbers(PEOPLE)
    assert found.num_groups == 3
    inventory = found.inventory
    assert inventory is not None
    assert (inventory.groups_from, inventory.num_groups) == (group, 3)
    labels = {"folder:1": (), "folder:2": ("a", "b")}.get(group, ("a",))
    assert found.class_names == labels
    if group == "folder:1":
        assert "the sub-folders are people" in inventory.notes[0]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("people", [PEOPLE, [3, 1, 3, 2, 1, 3]])
def test_arrays_and_columns_say_it(people: list[object], alone: bool, tmp_path: Path) -> None:
    images = (np.arange(6, dtype=np.uint8) * 10)[:, None, None] * np.ones((8, 8), np.uint8)
    named = numbers([str(each) for each in people])
    file = tmp_path / "set.npz"
    np.savez(file, images=images, person=np.array(people), labels=np.zeros(6, int))
    assert by_value(load(file, "array:person", name="npz", alone=alone)) == named
    np.savez(file, train_images=images, train_person=np.array(people), test_images=images)
    assert by_value(load(file, "array:person", name="npz", alone=alone)) == named
    table = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(each) for each in images], "person": people}
    ).cast_column("image", datasets.Image())
    (tmp_path / "tables").mkdir()
    table.to_parquet(tmp_path / "tables" / "train.parquet")
    found = load(tmp_path / "tables", "column:person", name="huggingface", alone=alone)
    assert by_value(found) == named
    assert found.inventory is not None
    assert found.inventory.notes == ()  # "no labels" would name the column of people


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "p1"),
        ("1", "1.0"),
        ("7", "007"),
        ("A 3", "a3"),
        ("\u00e9", "E\u0301"),
        ("P7", "P\u200b7"),
        ("P-7", "P\u20137"),
        ("P7", "'P7'"),
        ("7", "+7"),
        ("7", "\u0667"),
        (PLANTED, PLANTED.upper()),
    ],
)
def test_one_person_in_two_spellings_is_refused(one: str, other: str, tmp_path: Path) -> None:
    images = (np.arange(4, dtype=np.uint8) * 60)[:, None, None, None] * np.ones((1, 8, 8), np.uint8)
    people = [one, "somebody else", other, one]
    np.savez(tmp_path / "a.npz", images=images, whose=np.array(people))
    with pytest.raises(DataError, match="differ only in capitals") as caught:
        load(tmp_path / "a.npz", "array:whose", name="npz")
    text = str(caught.value)
    assert PLANTED.lower() not in text.lower()
    assert "image 0 of" in text
    assert "image 2 of" in text
    # Where no image may decide about another they are one, and nobody's image is left out.
    found = load(tmp_path / "a.npz", "array:whose", name="npz", alone=True)
    assert found.groups is not None
    first, second, third, fourth = found.groups.tolist()
    assert first == third == fourth != second
    for k in range(4):
        picture(tmp_path / "folder" / f"{k}.png", 60 * k)
    table = [f"{k}.png,{who}" for k, who in enumerate(people)]
    (tmp_path / "folder" / "labels.csv").write_text("\n".join(["file_name,whose", *table]))
    with pytest.raises(DataError, match=r"2\.png"):
        load(tmp_path / "folder", "column:whose")


def test_persons_who_differ_in_more_are_two(tmp_path: Path) -> None:
    people = ["P1", "P10", "P11", "1.5", "15", "1-2", "12", "100", "P-1", "-1"]
    images = (np.arange(10, dtype=np.uint8) * 25)[:, None, None] * np.ones((8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, whose=np.array(people))
    assert load(tmp_path / "a.npz", "array:whose", name="npz").num_groups == 10


def test_a_file_of_its_own_is_a_group_and_a_copy_is_of_the_same(tmp_path: Path) -> None:
    for number in (1, 2):
        picture(tmp_path / "set" / f"{number}.png", 10 * number)
    (tmp_path / "set" / "3.png").write_bytes((tmp_path / "set" / "1.png").read_bytes())
    found = load(tmp_path / "set", "file")
    assert found.groups is not None
    assert found.groups[0] == found.groups[2] != found.groups[1]


@pytest.mark.parametrize("value", ["", "  ", "NaN", "none", None, 1.5, "1.2E+05"])
def test_an_image_of_nobody_is_refused_or_left_out_alone(
    value: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "set"
    rows = []
    for number, name in enumerate([PLANTED, value, PLANTED + "x"]):
        picture(root / f"{number}.png", 10 * number)
        rows.append({"file_name": f"{number}.png", "person": name})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"1\.png: column:person .*data\.group"):
        load(root, "column:person")
    assert load(root, "column:person", alone=True).num_images == 2
    assert "1.png" in caplog.text
    assert PLANTED not in caplog.text


def test_a_row_of_another_part_is_no_training_picture(tmp_path: Path) -> None:
    rows = ["file_name,who,split", "0.png,a,train", "1.png,b,test", "2.png,a,", "3.png,c,val"]
    for number in range(4):
        picture(tmp_path / "set" / f"{number}.png", 60 * number)
    (tmp_path / "set" / "meta.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"column split .*test, train and validation"):
        load(tmp_path / "set", "column:who")
    found = load(tmp_path / "set", "column:who", alone=True)
    assert found.images[:, 0, 0, 0].tolist() == [0, 120]
    assert by_value(found) == numbers(["a", "a"])


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("folder:2", "lies 1 folder"),
        ("column:person", "no table"),
        ("array:person", "for an .npz"),
    ],
)
def test_what_cannot_say_it_is_refused_with_the_setting(
    group: str, told: str, class_folder: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=told) as caught:
        load(class_folder, group)
    assert group in str(caught.value)


def test_a_folder_of_a_part_names_nobody(class_folder: Path) -> None:
    for folder in sorted(class_folder.iterdir()):
        (folder / "train").mkdir()
        for file in folder.glob("*.png"):
            file.rename(folder / "train" / file.name)
    rules = ReadingRules(part="train", group=GroupRule.of("folder:2", key=KEY))
    with pytest.raises(DataError, match="names nobody"):
        load_images("image-folder", path=str(class_folder), cache_dir=class_folder, rules=rules)


@pytest.mark.parametrize("text", ["", "folder", "folder:0", "folder:10", "dicom:PatientName", "x"])
def test_the_setting_has_one_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.group must be"):
        GroupRule.of(text, key=KEY)
    with pytest.raises(ConfigError, match="group must be"):
        load_config(None, ("data.name=npz", "data.path=x.npz", f"data.group='{text}'"))


def test_published_sets_have_no_people(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="group is for data of your own"):
        load_config(None, ("data.name=digits", "data.group=file"))
    with pytest.raises(ConfigError, match=r"data\.group is for"):
        load(tmp_path, "file", name="digits")


# Splits: every property on random sets of people with few pixels, so that images repeat.

groups_of_images = st.lists(st.integers(0, 8), min_size=2, max_size=40).map(
    lambda found: np.array([group_number(str(each), key=KEY) for each in found], np.int64)
)


def image_set(groups: np.ndarray, labels: np.ndarray | None = None) -> ImageSet:
    rng = np.random.default_rng(len(groups))
    return ImageSet(
        name="npz",
        images=rng.integers(0, 3, (len(groups), 1, 2, 2)).astype(np.uint8),
        labels=labels,
        class_names=() if labels is None else ("a", "b", "c"),
        source="test",
        licence="test",
        groups=groups,
    )


def require_whole(parts: list[np.ndarray], groups: np.ndarray) -> None:
    """No person on two sides, by comparing every pair of parts."""
    people = [set(groups[part].tolist()) for part in parts]
    for number, one in enumerate(people):
        for other in people[:number]:
            assert not one & other


@given(groups_of_images, st.integers(0, 2**32), st.booleans())
@settings(max_examples=25, deadline=None)
def test_no_split_takes_a_person_apart(groups: np.ndarray, seed: int, labelled: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, len(groups)) if labelled else None
    whole = image_set(groups, labels)
    common = {"held_out": 0.2, "reference": 0.2, "seed": 0}
    with contextlib.suppress(DataError):  # too few people for every part
        split = make_split(
            labels, len(groups), rng=rng, dataset_digest=whole.digest(), groups=groups, **common
        )
        require_whole([split.members, split.held_out, split.reference], groups)
    with contextlib.suppress(DataError):
        keyed = keyed_split(whole, key=seed.to_bytes(32, "big"), fraction=0.8, **common)
        require_whole([keyed.members, keyed.held_out, keyed.reference, keyed.unused], groups)
    scheme = ("iid", "dirichlet", "shards", "quantity")[seed % 4 if labelled else 0]
    people = len(np.unique(groups))
    if people >= 4:
        dealt = deal(
            PartitionConfig(scheme=scheme, num_sites=2), labels, len(groups), rng=rng, groups=groups
        )
        require_whole(dealt, groups)
        assert sorted(np.concatenate(dealt).tolist()) == list(range(len(groups)))


@given(groups_of_images, st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_person_more_moves_no_other_person(groups: np.ndarray, seed: int) -> None:
    """Under the keyed split, at a real site and in a simulation's parts, order included."""
    whole = image_set(groups)
    leaving = groups[seed % len(groups)]
    kept = np.flatnonzero(groups != leaving)
    if len(kept) == 0:
        return
    settings = {"held_out": 0.2, "reference": 0.2, "fraction": 0.9, "seed": 0}
    try:
        one = keyed_split(whole, key=seed.to_bytes(32, "big"), **settings)
        fewer = keyed_split(whole.take(kept), key=seed.to_bytes(32, "big"), **settings)
    except DataError:
        return
    for part in ("members", "held_out", "reference", "unused"):
        before = [i for i in getattr(one, part).tolist() if groups[i] != leaving]
        after = kept[getattr(fewer, part)].tolist()
        # Equal images of one person may change places: nobody can tell them apart.
        assert [(whole.images[i].tobytes(), groups[i]) for i in before] == [
            (whole.images[i].tobytes(), groups[i]) for i in after
        ]


def test_sizes_are_near_what_is_asked_for_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(300), rng.integers(1, 6, 300))
    labels = (groups % 3).astype(np.int64)
    split = make_split(
        labels, len(groups), held_out=0.2, reference=0.1, rng=rng, dataset_digest="0" * 64, seed=0,
        groups=groups,
    )  # fmt: skip
    for part, share in ((split.held_out, 0.2), (split.reference, 0.1)):
        assert abs(len(part) - share * len(groups)) <= 3  # half of the largest person
        counts = np.bincount(labels[part])
        assert counts.max() - counts.min() < 0.25 * len(part)


def test_a_site_that_gets_a_person_more_trains_on_hers_or_on_nothing_more(tmp_path: Path) -> None:
    root = tmp_path / "set"
    rng = np.random.default_rng(3)
    for number in range(60):
        pixels = rng.integers(0, 256, (8, 8)).astype(np.uint8)
        file = root / "cat" / f"p{number % 12}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    plan = DataConfig(
        image_size=8, channels=1, held_out=0.2, reference=0.1, name="npz", path="x",
        group="folder:2",
    )  # fmt: skip

    def members() -> list[tuple[bytes, int]]:
        found = keyed_members("image-folder", str(root), plan=plan, key=KEY, cache_dir=tmp_path)
        assert found.groups is not None
        return [(i.tobytes(), g) for i, g in zip(found.images, found.groups, strict=True)]

    whole = members()
    told = {group for _, group in whole}
    assert 6 <= len(told) <= 12
    for number in range(12):
        folder = root / "cat" / f"p{number}"
        folder.rename(tmp_path / "away")
        hers = group_number(f"p{number}", key=KEY)
        assert members() == [entry for entry in whole if entry[1] != hers]
        (tmp_path / "away").rename(folder)


def test_a_simulation_keeps_people_whole_and_no_identifier(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = np.array([f"{PLANTED}-{each}" for each in rng.integers(0, 40, 200)])
    file = tmp_path / "set.npz"
    np.savez(
        file, images=rng.integers(0, 256, (200, 8, 8)).astype(np.uint8), patient=people,
        labels=rng.integers(0, 3, 200), class_names=np.array(["a", "b", "c"]),
    )  # fmt: skip
    data = ("data.name=npz", f"data.path={file}", "data.group=array:patient")
    form = ("data.image_size=8", "data.channels=1", "audit.canaries=4")
    for own in (("data.split=keyed", "partition.scheme=iid"), ("partition.scheme=dirichlet",)):
        config = load_config(None, (*data, *form, *own))
        found = partition_images(config, seeds=SeedTree(config.seed), cache_dir=tmp_path)
        groups = found.image_set.groups
        assert groups is not None
        parts = [*found.parts.values(), found.split.held_out, found.split.reference]
        require_whole(parts, groups)
        for site in found.parts:
            images = found.site_images(site)
            assert images.groups is not None
            planted = images.groups < 0
            assert len(set(images.groups[planted].tolist())) == planted.sum()
            assert planted.sum() + len(found.parts[site]) == len(images.images)
        assert PLANTED not in repr(found)


def test_small_helpers() -> None:
    labels, groups = np.array([2, 1, 1, 0, 2, 2]), np.array([5, 5, 5, 1, 9, 9])
    assert majority(labels, groups).tolist() == [0, 1, 2]
    assert of_their_own(2, beside=np.array([4, -7])).tolist() == [-8, -9]
    assert of_their_own(1, beside=np.empty(0, np.int64)).tolist() == [-1]
    runs = np.array([3, 3, 8, 8, 8, 1])
    assert [next_group(runs, place) for place in range(7)] == [0, 2, 2, 5, 5, 5, 6]
    assert next_group(None, 3) == 3
