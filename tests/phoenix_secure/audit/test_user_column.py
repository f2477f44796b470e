"""Figures by a column of the user's own metadata."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audited_scores import plan_of, scored
from phoenix_secure.api import attacks
from phoenix_secure.audit.details import strata
from phoenix_secure.audit.images import AuditImages, images_of_files
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.roles import draw_roles
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.user_column import values_of_run
from phoenix_secure.config import DataConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.sources import load_run_images
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.rng import SeedTree

DIGITS = load_digits()


def pictures(folder: Path, first: int, num: int, *, value=lambda k: "AB"[k % 2]) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for k in range(first, first + num):
        Image.fromarray(DIGITS.images[k, 0]).save(folder / f"{k:04d}.png")
        rows.append({"file_name": f"{k:04d}.png", "scanner": value(k), "number": k})
    rng = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([rows[k] for k in rng.permutation(num)])
    return folder


def audited(tmp_path: Path, **options) -> AuditImages:
    members = pictures(tmp_path / "members", 0, 120)
    others = pictures(tmp_path / "others", 120, 120, **options)
    return images_of_files(members, others, None, shape=None, by="column:scanner")


def test_every_image_has_the_value_of_its_own_row(tmp_path: Path) -> None:
    images = audited(tmp_path)
    pixels = {DIGITS.images[k].tobytes(): "AB"[k % 2] for k in range(240)}
    for part, values in (
        (images.members, images.column.members),
        (images.non_members, images.column.non_members),
    ):
        assert values.tolist() == [pixels[image.tobytes()] for image in part.images]


def test_a_group_that_an_attack_finds_stands_out_among_the_others(tmp_path: Path) -> None:
    images = audited(tmp_path)
    roles = draw_roles(images, profile=PROFILES["smoke"], seeds=SeedTree(0))
    inside = roles.evaluation.membership
    values = np.concatenate(
        [images.column.members[roles.members], images.column.non_members[roles.non_members]]
    )
    scores = np.random.default_rng(0).normal(size=len(inside)) + 3 * (inside & (values == "B"))
    target = Target(kind="run", sha256="", images=images)
    plan = plan_of(len(inside))
    rows = strata(scored(scores), target=target, roles=roles, plan=plan, with_sites=True)
    found = {row.group: row for row in rows if row.kind == "column"}
    assert list(found) == ["A", "B"]
    assert found["A"].auc.low < 0.5 < found["A"].auc.high
    assert found["B"].auc.low > 0.9
    assert found["B"].num_members == (inside & (values == "B")).sum()
    public = strata(scored(scores), target=target, roles=roles, plan=plan, with_sites=False)
    assert not [row for row in public if row.kind == "column"]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("column:device", "no table with a column of file names and one named device"),
        ("column:number", "has 120 different values, at most 50"),
        ("scanner", "use column:NAME"),
        ("dicom:PatientID", "use column:NAME"),
    ],
)
def test_columns_that_tell_no_groups_are_refused(tmp_path: Path, by: str, said: str) -> None:
    members = pictures(tmp_path / "members", 0, 120)
    others = pictures(tmp_path / "others", 120, 60)
    with pytest.raises((ConfigError, DataError), match=said):
        images_of_files(members, others, None, shape=None, by=by)


def test_an_image_without_a_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--by column:scanner: .*0130\.png"):
        audited(tmp_path, value=lambda k: "" if k == 130 else "A")


def test_groups_of_people_are_for_the_confidential_edition(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with --edition confidential alone"):
        attacks.audit(tmp_path, by="column:scanner")


def test_a_run_s_own_folder_and_no_published_set(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", 0, 60)
    data = DataConfig(
        name="image-folder", path=str(folder), image_size=8, channels=1, split="stratified"
    )
    images = load_run_images(data, seed=0, cache_dir=tmp_path)
    values = values_of_run(data, images, seed=0, cache_dir=tmp_path, by="column:scanner")
    pixels = {DIGITS.images[k].tobytes(): "AB"[k % 2] for k in range(60)}
    assert values.tolist() == [pixels[image.tobytes()] for image in images.images]
    digits = DataConfig(name="digits", split="stratified")
    with pytest.raises(ConfigError, match="is for images of your own: digits"):
        values_of_run(digits, images, seed=0, cache_dir=tmp_path, by="column:scanner")
