"""The members that stand out, and what is near them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from audited_scores import scored
from phoenix_secure.audit.exposed import exposed_rows, find_exposed
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.report import ExposedReport
from phoenix_secure.audit.roles import Roles, draw_roles
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.rng import SeedTree

DIGITS = load_digits()


def images_of(members: np.ndarray | None = None) -> AuditImages:
    inside = DIGITS.take(np.arange(300))
    if members is not None:
        inside = dataclasses.replace(inside, images=members)
    return AuditImages(
        members=inside,
        non_members=DIGITS.take(np.arange(300, 600)),
        reference=None,
        member_sites=np.array([f"site-{k % 2}" for k in range(300)]),
        num_duplicates=0,
    )


def found_for(images: AuditImages, samples=None) -> tuple[tuple[ExposedReport, ...], Roles]:
    """The member at each place is the surer the higher its number."""
    roles = draw_roles(images, profile=PROFILES["smoke"], seeds=SeedTree(0))
    scores = np.zeros(len(roles.evaluation.membership))
    scores[: len(roles.members)] = roles.members + 1
    return find_exposed(scored(scores), images=images, roles=roles, samples=samples), roles


def test_worst_first_with_class_site_and_the_nearest_of_all_members() -> None:
    images = images_of()
    samples = to_unit_range(DIGITS.images[600:700])
    rows, roles = found_for(images, samples)
    assert [row.index for row in rows] == sorted(roles.members, reverse=True)[:10]
    pixels = to_unit_range(images.members.images).reshape(300, -1)
    for row in rows:
        apart = np.sqrt(((pixels - pixels[row.index]) ** 2).mean(axis=1))  # the oracle
        apart[row.index] = np.inf
        assert row.nearest_members == tuple(np.argsort(apart, kind="stable")[:3])
        assert row.member_distance == pytest.approx(apart.min(), rel=1e-5)
        assert row.class_name == images.members.class_names[images.members.labels[row.index]]
        assert row.site == f"site-{row.index % 2}"
        to_samples = samples.reshape(100, -1) - pixels[row.index]
        assert row.sample_distance == pytest.approx(
            np.sqrt((to_samples**2).mean(axis=1)).min(), rel=1e-5
        )


def test_an_outlier_is_isolated_and_a_twin_is_not() -> None:
    changed = DIGITS.images[:300].copy()
    _, roles = found_for(images_of())
    outlier, twin = sorted(roles.members, reverse=True)[:2]
    changed[outlier] = np.random.default_rng(0).integers(0, 256, changed.shape[1:])
    changed[0] = changed[twin]
    rows, _ = found_for(images_of(changed))
    by_index = {row.index: row for row in rows}
    assert by_index[outlier].isolation > 0.99
    assert by_index[twin].isolation == 0
    assert by_index[twin].member_distance == 0
    assert by_index[twin].nearest_members[0] == 0
    assert by_index[twin].sample_distance is None


def test_many_equal_images_are_nobodys_own_neighbour() -> None:
    equal = np.repeat(DIGITS.images[:1], 300, axis=0)
    rows, _ = found_for(images_of(equal))
    for row in rows:
        assert row.index not in row.nearest_members
        assert len(set(row.nearest_members)) == 3


def test_pictures_show_the_member_its_neighbours_and_white_where_there_is_no_sample() -> None:
    images = images_of()
    rows, _ = found_for(images)
    pictures = exposed_rows(rows, images=images, samples=None)
    assert pictures.shape == (10, 6, 1, 8, 8)
    assert (pictures[0, 0] == images.members.images[rows[0].index]).all()
    assert (pictures[0, 1] == images.members.images[rows[0].nearest_members[0]]).all()
    assert (pictures[:, 5] == 255).all()
    assert not (pictures[:, 4] == 255).all()
