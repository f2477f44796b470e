"""Which image an audit uses for what, on sets that differ in one image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.roles import Group, TooFewImages, draw_roles
from phoenix_secure.audit.target import Target
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import ImageSet
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.rng import SeedTree


def images(*, without: int | None = None, reverse: bool = False) -> AuditImages:
    digits = load_digits()
    members = np.arange(400) if without is None else np.delete(np.arange(400), without)
    return AuditImages(
        members=digits.take(members[::-1] if reverse else members),
        non_members=digits.take(np.arange(400, 800)),
        reference=digits.take(np.arange(800, 1000)),
        member_sites=None,
        num_duplicates=0,
    )


def group_contents(group: Group) -> set[bytes]:
    return {image.tobytes() for image in group.images}


def test_the_groups_follow_from_the_images_and_not_from_their_order() -> None:
    profile = profile_named("smoke")
    first, second = (
        draw_roles(images(reverse=reverse), profile=profile, seeds=SeedTree(1))
        for reverse in (False, True)
    )
    for name in ("choice", "evaluation"):
        assert np.array_equal(getattr(first, name).images, getattr(second, name).images)
    another = draw_roles(images(), profile=profile, seeds=SeedTree(2))
    assert group_contents(another.evaluation) != group_contents(first.evaluation)


def test_one_member_more_moves_a_few_others_at_most() -> None:
    """The groups have sizes of their own, so that one image more may push one on in each."""
    profile = profile_named("smoke")
    whole = draw_roles(images(), profile=profile, seeds=SeedTree(1))
    for without in range(0, 400, 40):
        fewer = draw_roles(images(without=without), profile=profile, seeds=SeedTree(1))
        for name in ("choice", "evaluation"):
            a, b = (group_contents(getattr(roles, name)) for roles in (whole, fewer))
            assert len(a - b) <= 2
            assert len(b - a) <= 2


def test_digests_of_private_images_are_keyed_by_the_run(tmp_path: Path) -> None:
    records = Records(images=np.zeros((2, 1, 4, 4), np.float32))
    group = Group(records=records, membership=np.array([True, False]))
    private = load_config(None, ["privacy.unit=record", "privacy.epsilon=8"])

    def target(**more: object) -> Target:
        return Target(kind="run", sha256="", images=images(), **more)  # type: ignore[arg-type]

    keys = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run = RunFolder(tmp_path / name)
        key = target(run=run, config=private).digest_key()
        assert key == target(run=run, config=private).digest_key()
        assert (run.path / "audit.key").stat().st_mode & 0o077 == 0
        keys.append(key)
    assert len({group.digest(key=key) for key in (*keys, None)}) == 3
    open_run = target(run=RunFolder(tmp_path / "a"), config=load_config(None, []))
    assert open_run.digest_key() is None
    assert target().digest_key() is None


@pytest.mark.parametrize(
    ("num", "num_evaluated"),
    [
        ((48, 6, 6), 6),  # what 60 pictures leave at the default shares
        ((48, 8, 0), 4),
        ((8, 200, 0), 4),
        ((400, 12, 39), 12),
        ((48, 7, 3), None),
        ((7, 48, 48), None),
    ],
)
def test_few_images_are_dealt_out_as_long_as_four_a_side_remain(
    num: tuple[int, int, int], num_evaluated: int | None
) -> None:
    ends = np.cumsum(num)
    digits = load_digits()
    few = AuditImages(
        members=digits.take(np.arange(ends[0])),
        non_members=digits.take(np.arange(ends[0], ends[1])),
        reference=digits.take(np.arange(ends[1], ends[2])) if num[2] else None,
        member_sites=None,
        num_duplicates=0,
    )
    profile = profile_named("smoke")
    if num_evaluated is None:
        with pytest.raises(TooFewImages, match=f"{num[0]} members.*at least 8"):
            draw_roles(few, profile=profile, seeds=SeedTree(1))
        return
    roles = draw_roles(few, profile=profile, seeds=SeedTree(1))
    assert len(roles.evaluation.images) == 2 * num_evaluated
    assert len(roles.choice.images) >= 8
    sets = [group_contents(group) for group in (roles.choice, roles.evaluation)]
    assert not sets[0] & sets[1]


def test_no_person_is_in_two_groups_of_an_audit() -> None:
    """Each image's value names its person, so that groups can be compared by what is in them."""
    profile = profile_named("smoke")

    def of_people(first: int, num: int) -> ImageSet:
        people = first + np.repeat(np.arange(num), 5)
        images = np.repeat(people.astype(np.uint8)[:, None, None, None], 64, 1)
        return dataclasses.replace(
            load_digits().take(np.arange(len(people))),
            images=images.reshape(-1, 1, 8, 8),
            groups=people,
        )

    for reference in (None, of_people(200, 12)):
        found = AuditImages(
            members=of_people(0, 80),
            non_members=of_people(100, 80),
            reference=reference,
            member_sites=None,
            num_duplicates=0,
        )
        roles = draw_roles(found, profile=profile, seeds=SeedTree(1))
        groups = [roles.choice.images, roles.evaluation.images]
        if roles.calibration is not None:
            groups.append(roles.calibration.images)
        people = [set(images[:, 0, 0, 0].tolist()) for images in groups]
        assert sum(map(len, people)) == len(set().union(*people))
        for group in (roles.choice, roles.evaluation):
            assert group.membership.sum() * 2 == len(group.membership)
