"""Two folders that differ in all pictures of one person answer alike, but for the noised update.

What ``test_folder_neighbours.py`` tries with one image, for one person with any number of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from own_folder import PERSONS, OwnFolderSite, digit_pictures
from phoenix_secure.data.groups import GroupRule
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.messages import TrainReply
from phoenix_secure.privacy.ledger import PrivacyLedger

GROUP = [*PERSONS, "privacy.unit=group", "privacy.noise_multiplier=1.0"]
GROUP += ["privacy.sampling_rate=0.3", "privacy.images_per_group=3"]


def names_of(num_images: int, *, each: int = 5) -> list[str]:
    return [f"person-{number // each:03}" for number in range(num_images)]


@pytest.mark.long
def test_a_person_more_or_fewer_changes_nothing_that_is_told(tmp_path: Path) -> None:
    """Also one with a hundred pictures, with none that can be read, and no person at all."""

    def many(site: OwnFolderSite) -> None:
        for number, picture in enumerate(digit_pictures(100)):
            site.add(picture, f"{number}.png", person="many")

    def damaged(site: OwnFolderSite) -> None:
        (site.images / "broken").mkdir()
        (site.images / "broken" / "bad.png").write_bytes(b"\x89PNG")

    changes: dict[str, tuple[int, Callable[[OwnFolderSite], object]]] = {
        "as it is": (30, lambda site: None),
        "many more": (30, many),
        "one fewer": (30, lambda site: shutil.rmtree(site.images / "person-002")),
        "a damaged one": (30, damaged),
        "one alone": (5, lambda site: None),
        "and without her": (5, lambda site: shutil.rmtree(site.images / "person-000")),
    }
    told = {}
    for name, (num, change) in changes.items():
        site = OwnFolderSite(
            tmp_path / name.replace(" ", "-"), images=digit_pictures(num), persons=names_of(num)
        )
        change(site)
        # Above 1/persons: a refusal would tell their number.
        plan = site.plan(*GROUP, "secure_aggregation.mode=off", "privacy.delta=0.0095")
        d = site.num_parameters(plan)
        body = site.answer(plan)
        reply = TrainReply.from_bytes(body, round_number=1, num_parameters=d)
        told[name] = (
            *(len(body), reply.num_images, reply.num_steps, reply.loss, reply.seconds),
            np.abs(reply.delta).max() > 0,
        )
        (release,) = PrivacyLedger.open(site.folder.path / "privacy.jsonl").releases()
        assert release.event.unit == "group"  # type: ignore[union-attr]
    assert len(set(told.values())) == 1, told
    assert next(iter(told.values()))[1:] == (1, 2, 0.0, 0.0, True)


def test_persons_are_not_protected_where_nobody_says_who_they_are(tmp_path: Path) -> None:
    site = OwnFolderSite(tmp_path, images=digit_pictures(10))
    with pytest.raises(ConfigError, match=r"set\s+data\.group"):
        site.plan("privacy.unit=group", "privacy.noise_multiplier=1")


def test_a_picture_under_another_spelling_leaves_nobody_out(tmp_path: Path) -> None:
    """The one that came later was left out: one picture of "P0" took all those of "p0" away."""
    site = OwnFolderSite(tmp_path, images=digit_pictures(12), persons=["p0"] * 6 + ["p1"] * 6)

    def counts() -> tuple[int, int]:
        found = load_images(
            "image-folder",
            path=str(site.images),
            image_size=8,
            channels=1,
            cache_dir=tmp_path,
            rules=ReadingRules(group=GroupRule.of("folder:1", key=bytes(32)), each_alone=True),
        )
        assert found.num_groups is not None
        return found.num_images, found.num_groups

    assert counts() == (12, 2)
    site.add(digit_pictures(13)[12], "0.png", person="P0")
    assert counts() == (13, 2)
