"""A site's own names of classes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.config import DataConfig
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.own_class_names import check_own_classes, in_words_of_plan
from phoenix_secure.data.own_images import keyed_members
from phoenix_secure.errors import ConfigError, DataError, NoImages

PLAN = ("benign", "malignant")


def image_set(names: tuple[str, ...], labels: list[int] | None) -> ImageSet:
    count = 3 if labels is None else len(labels)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8), np.uint8)
    return ImageSet(
        name="npz", images=images, class_names=names, source="test", licence="test",
        labels=None if labels is None else np.array(labels),
    )  # fmt: skip


def test_own_names_become_the_plan_s_and_several_one() -> None:
    own = image_set(("ben", "mal", "mal2", "benign"), [0, 1, 2, 3, 1])
    found = in_words_of_plan(own, {"ben": "benign", "mal": "malignant", "mal2": "malignant"})
    assert found.class_names == PLAN
    assert found.labels.tolist() == [0, 1, 1, 0, 1]
    assert in_words_of_plan(own, {}) is own


def test_two_classes_change_names_without_meeting() -> None:
    found = in_words_of_plan(image_set(("a", "b"), [0, 1, 1]), {"a": "b", "b": "a"})
    assert [found.class_names[k] for k in found.labels] == ["b", "a", "a"]


def test_what_is_left_out_is_told_in_the_own_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    own = image_set(("ben", "junk"), [0, 1, 1])
    with caplog.at_level(logging.WARNING):
        found = in_words_of_plan(own, {"ben": "benign", "junk": None})
    assert found.labels.tolist() == [0]
    assert (found.images == 0).all()
    assert "2 image(s) left out by data.classes" in caplog.text
    with pytest.raises(NoImages):
        in_words_of_plan(own, {"ben": None, "junk": None})


def test_names_that_are_not_there_are_refused_unless_that_tells_of_images(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = image_set(("ben", "mal"), [0, 1])
    with pytest.raises(DataError, match=r"names 'bne', and npz has ben, mal: correct"):
        in_words_of_plan(own, {"bne": "benign"})
    with caplog.at_level(logging.WARNING):
        found = in_words_of_plan(own, {"bne": "benign"}, each_alone=True)
    assert found.class_names == ("ben", "mal")
    assert "names 'bne'" in caplog.text
    with pytest.raises(DataError, match="has no labels"):
        in_words_of_plan(image_set((), None), {"a": "benign"})


def test_classes_lead_to_classes_of_the_plan() -> None:
    check_own_classes({"ben": "benign", "x": None}, public=PLAN)
    check_own_classes({}, public=())
    with pytest.raises(ConfigError, match=r"'ben' is 'bening', which is no class of the plan"):
        check_own_classes({"ben": "bening"}, public=PLAN)
    with pytest.raises(ConfigError, match="learns without classes"):
        check_own_classes({"ben": "benign"}, public=())


def test_a_keyed_site_trains_on_its_images_under_the_plan_s_numbers(tmp_path: Path) -> None:
    plan = DataConfig(
        name="npz", path="x", image_size=8, channels=1, held_out=0, reference=0, class_names=PLAN
    )
    pixels = np.full((4, 8, 8), 9, np.uint8) * np.arange(1, 5, dtype=np.uint8)[:, None, None]
    file = tmp_path / "set.npz"
    np.savez(
        file, images=pixels, labels=np.array([1, 0, 2, 1]), class_names=np.array(["m", "b", "x"])
    )
    found = keyed_members(
        "npz", str(file), plan=plan, key=bytes(32), cache_dir=tmp_path,
        own_classes={"m": "malignant", "b": "benign", "x": None},
    )  # fmt: skip
    by_pixel = dict(zip(found.images[:, 0, 0, 0].tolist(), found.labels.tolist(), strict=True))
    assert by_pixel == {9: 0, 18: 1, 36: 0}
    # Without a word on them, images of other names take no part: today's rule.
    assert (
        len(keyed_members("npz", str(file), plan=plan, key=bytes(32), cache_dir=tmp_path).images)
        == 0
    )
