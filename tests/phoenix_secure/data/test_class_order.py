from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.config import DataConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.class_order import in_class_order
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.own_images import keyed_members
from phoenix_secure.errors import ConfigError, DataError, NoImages


def image_set(names: tuple[str, ...], labels: list[int] | None) -> ImageSet:
    count = 3 if labels is None else len(labels)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8), np.uint8)
    return ImageSet(
        name="npz", images=images, class_names=names, source="test", licence="test",
        labels=None if labels is None else np.array(labels),
    )  # fmt: skip


def test_labels_follow_names_and_never_places() -> None:
    one = in_class_order(image_set(("cat", "dog", "ape"), [0, 1, 2, 1]), ("ape", "dog", "cat"))
    other = in_class_order(image_set(("ape", "cat", "dog"), [1, 2, 0, 2]), ("ape", "dog", "cat"))
    assert one.labels.tolist() == other.labels.tolist() == [2, 1, 0, 1]
    assert one.class_names == ("ape", "dog", "cat")
    same = image_set(("a", "b"), [0, 1])
    assert in_class_order(same, ()) is same


def test_another_class_is_refused_or_left_out() -> None:
    found = image_set(("cat", "dog"), [0, 1, 1])
    with pytest.raises(DataError, match=r"2 image\(s\) of classes .* such as 'dog'"):
        in_class_order(found, ("cat", "ape"))
    left = in_class_order(found, ("ape", "cat"), each_alone=True)
    assert left.labels.tolist() == [1]
    with pytest.raises(NoImages):
        in_class_order(found, ("ape",), each_alone=True)
    with pytest.raises(DataError, match="has no labels"):
        in_class_order(image_set((), None), ("ape",))


def test_two_sites_with_other_classes_number_them_alike(tmp_path) -> None:
    plan = DataConfig(
        name="npz", path="x", image_size=8, channels=1, held_out=0, reference=0,
        class_names=("ape", "cat", "dog"),
    )  # fmt: skip
    numbers = []
    for names in (("dog", "cat"), ("cat", "dog")):
        images = np.full((4, 8, 8), 9, np.uint8) * np.arange(1, 5, dtype=np.uint8)[:, None, None]
        file = tmp_path / "set.npz"
        labels = np.array([names.index("dog"), names.index("cat")] * 2)
        np.savez(file, images=images, labels=labels, class_names=np.array(names))
        found = keyed_members("npz", str(file), plan=plan, key=bytes(32), cache_dir=tmp_path)
        numbers.append(found.labels[np.argsort(found.images[:, 0, 0, 0])].tolist())
    assert numbers == [[2, 1, 2, 1]] * 2


def test_names_are_different() -> None:
    with pytest.raises(ConfigError, match="different names"):
        load_config(None, ("data.class_names=[a, a]",))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ('["\u00e9", "e\u0301"]', "different names"),
        ('["a", "a\u200b"]', "different names"),
        ('["a", "\\e[31mb"]', "control characters"),
    ],
)
def test_names_differ_in_what_people_see(names: str, told: str) -> None:
    """The labels of the first went to the second: a folder's names are compared as NFC."""
    with pytest.raises(ConfigError, match=told):
        load_config(None, (f"data.class_names={names}",))
