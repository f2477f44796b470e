"""Persons are the units of the verdict where the images say whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from attacks.statistics.blind import BlindBaseline, blind_baseline
from phoenix_secure.audit.attack import Access
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.persons import EvaluatedPersons
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.roles import Roles, TooFewImages, draw_roles
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.significance import rank_p_value
from phoenix_secure.audit.units import low_fpr_of
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import ImageSet
from phoenix_secure.rng import SeedTree

EACH = 5  # images of a person


def audit_images(*, persons: bool = True, each: int = EACH, even: bool = False) -> AuditImages:
    """400 members and 200 others, dealt out so that a person's images are not beside each other.

    A person has ``each`` images, or two more or fewer unless ``even``.
    """
    digits, rng = load_digits(), np.random.default_rng(0)

    def part(first: int, last: int) -> ImageSet:
        sizes = np.tile([each, each, each] if even else [each - 2, each, each + 2], last - first)
        whose = np.repeat(first + np.arange(len(sizes)), sizes)[: last - first]
        groups = rng.permutation(whose).astype(np.int64)
        chosen = digits.take(np.arange(first, last))
        return dataclasses.replace(chosen, groups=groups) if persons else chosen

    return AuditImages(
        members=part(0, 400),
        non_members=part(400, 600),
        reference=None,
        member_sites=None,
        num_duplicates=0,
    )


def roles_of(images: AuditImages) -> Roles:
    return draw_roles(images, profile=profile_named("smoke"), seeds=SeedTree(1))


def scored(roles: Roles, *, seed: int = 0) -> Scored:
    rng, num = np.random.default_rng(seed), len(roles.evaluation.membership)
    scores = rng.normal(size=num)
    return Scored(
        name="loss",
        access=Access.QUERIES,
        setting="t=1",
        sign=1,
        chosen_on="others",
        choice_aucs={},
        choice_scores=rng.normal(size=len(roles.choice.membership)) + 3,
        scores=scores,
        placebo_choice_scores=np.empty(0),
        placebo_scores=scores[~roles.evaluation.membership],
        queries_per_record=1.0,
        seconds=0.0,
    )


def test_each_persons_scores_are_those_of_all_her_images() -> None:
    images = audit_images()
    roles = roles_of(images)
    persons = EvaluatedPersons.of(images, roles, seeds=SeedTree(1))
    assert persons is not None
    assert images.members.groups is not None
    assert images.non_members.groups is not None
    whose = np.concatenate(
        [
            images.members.groups[roles.members],
            images.non_members.groups[roles.non_members],
        ]
    )
    one = scored(roles)
    mean, ratio = persons.scored([one], choice=roles.choice.membership)
    assert (mean.name, ratio.name) == ("loss, mean", "loss, ratio")
    middle = (
        one.choice_scores[roles.choice.membership].mean()
        + one.choice_scores[~roles.choice.membership].mean()
    ) / 2
    found = list(dict.fromkeys(sorted(whose[roles.evaluation.membership])))
    found += list(dict.fromkeys(sorted(whose[~roles.evaluation.membership])))
    assert len(found) == len(mean.scores) == len(persons.membership)
    for number, person in enumerate(found):
        own = one.scores[whose == person]
        assert mean.scores[number] == pytest.approx(own.mean())
        assert ratio.scores[number] == pytest.approx((own - middle).sum())
        assert set(persons.of_image[whose == person]) == {number}
    np.testing.assert_allclose(mean.placebo_scores, mean.scores[~persons.membership])
    assert persons.placebo.sum() == len(persons.placebo) // 2
    planned = persons.planned([0.1, 0.001])
    assert (planned.num_members, planned.low_fpr) == (persons.num_members, 0.1)
    assert planned.aggregations == ("mean", "ratio")


def test_persons_of_as_many_images_each_are_ranked_once() -> None:
    """The ratio would rank them as the mean does, and cost the correction for many tests."""
    images = audit_images(even=True)
    roles = roles_of(images)
    persons = EvaluatedPersons.of(images, roles, seeds=SeedTree(1))
    assert persons is not None
    (only,) = persons.scored([scored(roles)], choice=roles.choice.membership)
    assert only.name == "loss, mean"
    assert persons.planned([0.1]).aggregations == ("mean",)


def test_images_of_nobody_have_no_persons_and_few_persons_no_figure() -> None:
    alone = audit_images(persons=False)
    assert EvaluatedPersons.of(alone, roles_of(alone), seeds=SeedTree(1)) is None
    few = audit_images(each=100)
    with pytest.raises(TooFewImages, match=r"at least 4 persons"):
        EvaluatedPersons.of(few, roles_of(few), seeds=SeedTree(1))


def p_values(*, num: int) -> Iterator[tuple[float, float]]:
    """By image and by person, of a model that learnt nobody: a person's images score alike."""
    images = audit_images(each=10)
    roles = roles_of(images)
    persons = EvaluatedPersons.of(images, roles, seeds=SeedTree(1))
    assert persons is not None
    for seed in range(num):
        rng = np.random.default_rng(seed)
        of_person = rng.normal(size=len(persons.membership))
        noise = 0.3 * rng.normal(size=len(persons.of_image))
        scores = of_person[persons.of_image] + noise
        by_person = np.array([scores[own].mean() for own in persons.images])
        yield (
            rank_p_value(scores, membership=roles.evaluation.membership),
            rank_p_value(by_person, membership=persons.membership),
        )


def test_persons_raise_no_false_alarm_where_images_raise_many() -> None:
    """At 5 %: counted by image the test is wrong most often, counted by person it is exact."""
    found = np.array(list(p_values(num=300)))
    by_image, by_person = (found <= 0.05).mean(axis=0)
    assert by_image > 0.2
    assert by_person < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


def faces(rng: np.random.Generator, *, num: int, each: int) -> np.ndarray:
    """(num * each, 1, 8, 8): one picture of each person, with a little noise."""
    own = rng.uniform(-0.7, 0.7, size=(num, 1, 1, 8, 8)).repeat(each, axis=1)
    return (own + 0.05 * rng.normal(size=own.shape)).reshape(-1, 1, 8, 8).astype(np.float32)


@pytest.mark.long
def test_a_blind_classifier_knows_persons_again_unless_its_folds_hold_whole_ones() -> None:
    rng = np.random.default_rng(2)
    x, membership = faces(rng, num=60, each=4), np.arange(240) < 120
    groups = np.repeat(np.arange(60), 4)
    apart = blind_baseline(x, membership=membership, rng=np.random.default_rng(0))
    assert apart.differs
    whole = blind_baseline(x, membership=membership, rng=np.random.default_rng(0), groups=groups)
    assert isinstance(whole, BlindBaseline)
    assert whole.auc is not None
    assert abs(whole.auc.value - 0.5) < 0.2
    few = blind_baseline(
        x[:152], membership=np.arange(152) < 76, rng=rng, groups=np.repeat(np.arange(38), 4)
    )
    assert few.reason == "not estimable: needs 20 persons on each side, there are 19"


def test_the_tested_fpr_is_the_lowest_that_the_units_can_show() -> None:
    assert low_fpr_of([0.1, 0.01, 0.001], num_others=400) == 0.01
    assert low_fpr_of([0.1, 0.01, 0.001], num_others=80) == 0.1
    assert low_fpr_of([0.01], num_others=99) is None
