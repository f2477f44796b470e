"""Pooled figures: those of all scores in one place, figure for figure; and the verdict."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.statistics.auc import auc
from attacks.statistics.roc import roc, tpr_at_fpr
from audited_parties import random_counts
from phoenix_secure.audit.pooled.attack_list import POOLED
from phoenix_secure.audit.pooled.auditor import Auditor, _planned
from phoenix_secure.audit.pooled.counting import count_scores
from phoenix_secure.audit.pooled.moments import (
    _STEPS,
    frechet,
    moments_of,
)
from phoenix_secure.audit.pooled.report import pooled_report
from phoenix_secure.audit.pooled.units import Selection, SideUnits
from phoenix_secure.audit.report import AuditReport, Outcome, PooledReport
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts, PooledLayout
from phoenix_secure.metrics.frechet import frechet_distance
from phoenix_secure.privacy.guarantee import NO_GUARANTEE

CONFIG = load_config(
    None,
    [
        *("partition.num_sites=5", "audit.at_sites=true", "audit.bins=512"),
        *("data.held_out=0.2", "data.class_names=[a,b]", "audit.max_images=400"),
    ],
)
LAYOUT = PooledLayout.of(CONFIG)
Scores = dict[str, tuple[np.ndarray, np.ndarray]]


def side(size: int, *, labels: np.ndarray, coins: np.ndarray) -> SideUnits:
    nothing = SiteImages(images=np.zeros((size, 1, 2, 2), np.uint8), labels=labels)
    return SideUnits(images=nothing, unit=np.arange(size), labels=labels, coins=coins)


def site(rng: np.random.Generator, size: int, *, shift: float, hard: float = 0.0):
    """Scores, units and blind scores of one site; ``shift`` makes members' losses smaller,
    ``hard`` those of all its images."""
    labels = np.arange(size) % 2
    chosen = Selection(
        members=side(size, labels=labels, coins=np.zeros(size, bool)),
        others=side(size, labels=labels, coins=rng.random(size) < 0.5),
    )
    scores = {
        attack.name: (
            -np.exp(rng.normal(-2 + hard - shift, 0.5, size)),
            -np.exp(rng.normal(-2 + hard, 0.5, size)),
        )
        for attack in POOLED
    }
    return scores, chosen, (rng.random(size), rng.random(size))


def report_of(counts: PooledCounts) -> AuditReport:
    first = counts.attacks[0]
    return pooled_report(
        counts,
        plan=_planned(CONFIG, plan="ab" * 32, target_sha256="cd" * 32, guarantee=NO_GUARANTEE),
        pooled=PooledReport(
            unit="image",
            num_members=int(first.members.sum()),
            num_others=int(first.others.sum()),
            sites_asked=5,
            sites_answered=counts.answered,
            sites_entered=counts.entered,
            noise="none: exact sums",
            frechet=None,
            frechet_name="FD",
            frechet_held_out=0,
            frechet_samples=0,
        ),
        target={"kind": "test"},
        class_names=("a", "b"),
        edition="public",
        seconds=1.0,
    )


def pooled(*parts: PooledCounts) -> PooledCounts:
    words = functools.reduce(operator.add, [LAYOUT.to_words(part) for part in parts])
    return LAYOUT.read(words)


def counts_of(made) -> PooledCounts:
    scores, chosen, blind = made
    return count_scores(scores, chosen, layout=LAYOUT, blind=blind)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_pooled_figures_are_those_of_the_scores_in_one_place_figure_for_figure(
    shift: float,
) -> None:
    rng = np.random.default_rng(3)
    sites = [site(rng, size, shift=shift) for size in (40, 61, 44, 90, 53)]
    found = report_of(pooled(*map(counts_of, sites)))
    for attack, row in zip(POOLED, found.attacks, strict=True):
        # In the clear: every score of every site, rounded to the plan's bins.
        ours, theirs = (
            np.concatenate(
                [attack.bins.of(made[0][attack.name][n], num_bins=512) for made in sites]
            )
            for n in (0, 1)
        )
        pairs = np.sign(ours[:, None] - theirs[None, :])
        assert row.auc.value == pytest.approx((pairs.mean() + 1) / 2, abs=1e-12)
        flags = np.arange(ours.size + theirs.size) < ours.size
        together = np.concatenate([ours, theirs]).astype(float)
        area = auc(together, membership=flags)
        # Sums in another order may differ in the last bit.
        interval = area.interval.low, area.interval.high
        assert (row.auc.low, row.auc.high) == pytest.approx(interval, rel=1e-12)
        curve = roc(together, membership=flags)
        for told, fpr in zip(row.tpr, (0.1, 0.05, 0.01, 0.001), strict=True):
            expected = tpr_at_fpr(curve, target=fpr)
            assert (told.tpr is None) == (expected.tpr is None)
            if told.tpr is not None:
                assert told.tpr.value == expected.tpr
                assert told.tpr.low == expected.tpr_interval.low
                assert told.true_fpr.high == expected.true_fpr_interval.high
    # And the whole report is that of one place with all images.
    whole = join(sites)
    assert found.model_copy(update={"pooled": None}) == report_of(counts_of(whole)).model_copy(
        update={"pooled": None}
    )
    assert (found.verdict.outcome is Outcome.LEAK) == (shift > 0)


def join(sites):
    scores: Scores = {
        attack.name: tuple(
            np.concatenate([made[0][attack.name][n] for made in sites]) for n in (0, 1)
        )
        for attack in POOLED
    }
    sides = [
        side(
            sum(getattr(made[1], name).num_units for made in sites),
            labels=np.concatenate([getattr(made[1], name).labels for made in sites]),
            coins=np.concatenate([getattr(made[1], name).coins for made in sites]),
        )
        for name in ("members", "others")
    ]
    blind = tuple(np.concatenate([made[2][n] for made in sites]) for n in (0, 1))
    return scores, Selection(members=sides[0], others=sides[1]), blind


def test_a_leak_is_found_and_none_is_where_there_is_none() -> None:
    rng = np.random.default_rng(5)
    leaking = report_of(pooled(*(counts_of(site(rng, 100, shift=0.5)) for _ in range(5))))
    assert leaking.verdict.outcome is Outcome.LEAK
    clean = report_of(pooled(*(counts_of(site(rng, 150, shift=0.0)) for _ in range(5))))
    assert clean.verdict.outcome is Outcome.NONE
    assert {row.group for row in clean.strata} == {"a", "b"}
    assert all(0.4 < row.auc.value < 0.6 for row in clean.strata)


def test_sites_of_unlike_sizes_and_difficulty_make_no_leak_of_what_is_none() -> None:
    """As many members as others at each site: else the site with easy images would."""
    rng = np.random.default_rng(8)
    sizes, hard = (300, 30, 30, 200, 60), (-2.0, 3.0, 0.0, 2.0, -1.0)
    false = 0
    for _ in range(40):
        parts = [
            counts_of(site(rng, size, shift=0.0, hard=h))
            for size, h in zip(sizes, hard, strict=True)
        ]
        false += report_of(pooled(*parts)).verdict.outcome is Outcome.LEAK
    assert false <= 6  # at most 5 % a time: seven or more of 40 has a chance below 1 %


def test_members_that_differ_without_the_model_are_no_leak() -> None:
    rng = np.random.default_rng(6)
    parts = []
    for _ in range(5):
        scores, chosen, (ours, theirs) = site(rng, 100, shift=0.5)
        parts.append(count_scores(scores, chosen, layout=LAYOUT, blind=(ours**0.5, theirs**2)))
    found = report_of(pooled(*parts))
    assert found.blind.differs
    assert found.verdict.outcome is Outcome.INCONCLUSIVE


def test_scores_that_the_bins_do_not_tell_apart_leave_the_audit_inconclusive() -> None:
    rng = np.random.default_rng(6)
    parts = []
    for _ in range(5):
        scores, chosen, blind = site(rng, 150, shift=0.0)
        alike = {name: tuple(-0.3 + side * 1e-6 for side in each) for name, each in scores.items()}
        parts.append(count_scores(alike, chosen, layout=LAYOUT, blind=blind))
    found = report_of(pooled(*parts))
    assert found.attacks[0].auc.value == 0.5
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert any("raise audit.bins" in reason for reason in found.verdict.reasons)


def test_a_baseline_that_one_site_could_not_make_leaves_the_audit_inconclusive() -> None:
    rng = np.random.default_rng(6)
    parts = [counts_of(site(rng, 150, shift=0.0)) for _ in range(4)]
    scores, chosen, _ = site(rng, 150, shift=0.0)
    parts.append(count_scores(scores, chosen, layout=LAYOUT, blind=None))
    found = report_of(pooled(*parts))
    assert found.blind.differs is None
    assert found.verdict.outcome is Outcome.INCONCLUSIVE


@given(st.integers(0, 2**32), st.integers(20, 200))
def test_words_hold_counts_whole_and_pass_the_check(seed: int, size: int) -> None:
    own = random_counts(LAYOUT, np.random.default_rng(seed), size=size)
    words = LAYOUT.to_words(own)
    assert words.shape == (LAYOUT.num_words,)
    assert np.abs(words).max() <= LAYOUT.limit
    again = LAYOUT.read(words)
    np.testing.assert_array_equal(LAYOUT.to_words(again), words)
    np.testing.assert_array_equal(again.moments.products, own.moments.products)
    LAYOUT.check(again, num_sites=1, are_asked=True)
    with pytest.raises(ValueError, match="add up"):
        LAYOUT.check(again, num_sites=1, are_asked=False)
    with pytest.raises(ValueError, match="words"):
        LAYOUT.read(words[:-1])


@given(st.integers(0, 2**32))
def test_pooled_distance_is_that_of_all_features_in_one_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = rng.uniform(2, 40, 32)
    real = [np.rint(rng.normal(3, scale, (n, 32))).astype(np.int64) for n in (50, 80, 37)]
    made = np.rint(rng.normal(0, scale + 5, (120, 32))).astype(np.int64)
    real = [each.clip(-127, 127) for each in real]
    made = made.clip(-127, 127)
    parts = [moments_of(each) for each in real]
    together = dataclasses.replace(
        parts[0],
        count=sum(each.count for each in parts),
        total=functools.reduce(operator.add, [each.total for each in parts]),
        products=functools.reduce(operator.add, [each.products for each in parts]),
    )
    expected = frechet_distance(made / _STEPS, np.concatenate(real) / _STEPS)
    assert frechet(moments_of(made), together) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 vectors"):
        frechet(moments_of(made[:1]), together)


def test_plan_follows_from_settings_and_model_alone_and_keeps_its_terms() -> None:
    auditor = Auditor(CONFIG, plan="ab" * 32)
    first = auditor.plan(target_sha256="cd" * 32, guarantee=NO_GUARANTEE)
    assert first == auditor.plan(target_sha256="cd" * 32, guarantee=NO_GUARANTEE)
    others = [
        auditor.plan(target_sha256="ce" * 32, guarantee=NO_GUARANTEE),
        Auditor(CONFIG, plan="ac" * 32).plan(target_sha256="cd" * 32, guarantee=NO_GUARANTEE),
    ]
    assert len({first, *others}) == 3
    planned = _planned(CONFIG, plan="ab" * 32, target_sha256="", guarantee=NO_GUARANTEE)
    assert planned.keeps(auditor.terms, skipped=())
    assert planned.low_fpr == 0.05  # three false alarms of the fewest images: 4 sites of 20
    assert list(itertools.chain(planned.fprs)) == [0.1, 0.05, 0.01, 0.001]
