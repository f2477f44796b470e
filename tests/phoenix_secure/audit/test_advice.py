"""Advice follows from figures, and from nothing where nothing was found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from attacks.epsilon.ceilings import auc_ceiling
from attacks.epsilon.trade_off import approximate_dp
from audited_scores import report_of, scored
from phoenix_secure.audit.advice import advice_on, epsilon_below
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.member_copies import member_copies
from phoenix_secure.audit.report import CopiesReport, Figure, StratumReport
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import ImageSet

NUM = 400


def leaking(**parts: object):
    values = np.random.default_rng(0).standard_normal(2 * NUM)
    values[:NUM] += 1.0
    return report_of(scored(values), **parts)  # type: ignore[arg-type]


def test_nothing_found_needs_nothing_done() -> None:
    values = np.random.default_rng(0).standard_normal(2 * NUM)
    losses = {"loss_of_members": 0.1, "loss_of_non_members": 0.2}
    assert advice_on(report_of(scored(values), **losses)) == ()  # type: ignore[arg-type]


def test_a_leak_names_losses_classes_and_an_epsilon_that_would_bound_it() -> None:
    worst = StratumReport(
        kind="class",
        group="3",
        num_members=40,
        num_non_members=40,
        auc=Figure(value=0.97, low=0.9, high=0.99),
        reason=None,
    )
    found = leaking(loss_of_members=0.01, loss_of_non_members=0.02, strata=(worst,))
    text = "\n".join(advice_on(found))
    assert "members' loss is 0.0100" in text
    assert "class 3 (AUC 0.97)" in text
    limit = found.verdict.detectable_auc
    epsilon = epsilon_below(limit, delta=1e-5)
    assert f"with epsilon {epsilon:g} or less" in text
    assert auc_ceiling(approximate_dp(epsilon, delta=1e-5)) <= limit + 5e-3


@pytest.mark.long
@pytest.mark.parametrize("auc", [0.52, 0.6, 0.75, 0.95])
def test_the_epsilon_is_the_largest_that_keeps_the_auc(auc: float) -> None:
    """Against the slow way: every epsilon in turn."""
    tried = np.exp(np.arange(np.log(0.01), np.log(20), 0.02))
    allowed = [e for e in tried if auc_ceiling(approximate_dp(float(e), delta=1e-5)) <= auc]
    assert epsilon_below(auc, delta=1e-5) == pytest.approx(max(allowed), rel=0.06)


def image_set(images: np.ndarray) -> ImageSet:
    return ImageSet(
        name="made",
        images=images,
        labels=np.zeros(len(images), np.int64),
        class_names=("all",),
        source="made",
        licence="none",
    )


def test_copies_are_counted_among_members_and_across() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (12, 1, 16, 16), dtype=np.uint8)
    nearly = base[3:4].copy()
    nearly[0, 0, 0, 0] ^= 1
    members = image_set(np.concatenate([base[:6], base[:2], nearly]))
    others = image_set(np.concatenate([base[6:], nearly ^ 1]))
    images = AuditImages(
        members=members,
        non_members=others,
        reference=None,
        member_sites=None,
        num_duplicates=0,
    )
    found = member_copies(images)
    assert found.num_members == 9
    assert found.exact == 2
    assert found.near == 2  # the fourth, and the one nearly like it
    assert found.across == 3
    nothing = scored(np.random.default_rng(0).standard_normal(2 * NUM))
    (line,) = advice_on(report_of(nothing, copies=found))
    assert "2 members are copies of others and 2 nearly so" in line
    none = CopiesReport(num_members=9, exact=0, near=0, across=3)
    assert advice_on(report_of(nothing, copies=none)) == ()


def test_images_that_look_alike_by_nature_are_no_repetitions() -> None:
    """Digits one drawn alike: unseen ones have a member nearly like them as often as members."""
    rng = np.random.default_rng(0)
    ones = load_digits()
    ones = ones.take(np.flatnonzero(ones.labels == 1)[:12])

    def variants(num: int) -> ImageSet:
        taken = ones.take(np.arange(num) % len(ones.images))
        brighter = taken.images.astype(np.int16) + rng.integers(1, 4, (num, 1, 1, 1))
        return dataclasses.replace(taken, images=brighter.clip(0, 255).astype(np.uint8))

    def found_for(others: ImageSet) -> CopiesReport:
        return member_copies(
            AuditImages(
                members=variants(60),
                non_members=others,
                reference=None,
                member_sites=None,
                num_duplicates=0,
            )
        )

    nothing = scored(rng.standard_normal(2 * NUM))
    natural, repeated = found_for(variants(30)), found_for(load_digits().take(np.arange(900, 930)))
    assert natural.near > 0
    assert natural.alike_by_nature
    assert not repeated.alike_by_nature
    quiet = natural.model_copy(update={"exact": 0})
    assert advice_on(report_of(nothing, copies=quiet)) == ()
    (line,) = advice_on(report_of(nothing, copies=repeated))
    assert f"{repeated.near} nearly so" in line
