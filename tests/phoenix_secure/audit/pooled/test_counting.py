"""A site's counts: whom it counts, in which bins, and from which scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import denoising_loss
from phoenix_secure.audit.pooled.attack_list import POOLED, asked_timesteps
from phoenix_secure.audit.pooled.bins import LogBins, expanded, unit_bins
from phoenix_secure.audit.pooled.counting import SiteExaminer, denoiser_of
from phoenix_secure.audit.pooled.units import select
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.secagg.pooled_layout import POOLED_ATTACKS, PooledLayout
from phoenix_secure.federation.site.pooled_audit import AuditedImages
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector

KEY = bytes(range(32))
BINS = LogBins(low=-4.0, high=4.0)
SETTINGS = [
    *("data.name=digits", "data.image_size=8", "data.channels=1", "data.held_out=0.2"),
    *("partition.num_sites=5", "model.block_channels=[8]", "model.attention=[false]"),
    *("sampling.num_steps=2", "evaluation.num_images=0", "device=cpu"),
    *("audit.at_sites=true", "audit.bins=64", "audit.max_images=40"),
]


def images(rows: slice, *, labelled: bool = False) -> SiteImages:
    digits = load_digits()
    return SiteImages(
        images=np.ascontiguousarray(digits.images[rows]),
        labels=digits.labels[rows] if labelled else None,
    )


def test_attacks_of_layout_and_list_are_the_same() -> None:
    assert tuple(attack.name for attack in POOLED) == POOLED_ATTACKS


@given(st.lists(st.floats(-1e6, -1e-9), min_size=2, max_size=30), st.integers(8, 600))
def test_larger_scores_are_in_no_lower_bin(scores: list[float], num_bins: int) -> None:
    ordered = np.sort(np.array(scores))
    bins = BINS.of(ordered, num_bins=num_bins)
    assert (np.diff(bins) >= 0).all()
    assert bins.min() >= 0
    assert bins.max() < num_bins


def test_bins_are_even_on_the_logarithm_and_closed_at_both_ends() -> None:
    scores = -(2.0 ** np.array([9.0, 3.9, 0.1, -0.1, -3.9, -9.0]))
    assert BINS.of(scores, num_bins=8).tolist() == [0, 0, 3, 4, 7, 7]
    assert BINS.of(np.array([0.0]), num_bins=8).tolist() == [7]
    for wrong in (1e-6, np.nan, -np.inf):
        with pytest.raises(ValueError, match="finite scores of zero or less"):
            BINS.of(np.array([wrong]), num_bins=8)
    assert unit_bins(np.array([0.0, 0.49, 0.5, 1.0]), num_bins=2).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        unit_bins(np.array([np.nan]), num_bins=2)


@given(st.lists(st.integers(0, 7), max_size=40), st.lists(st.integers(0, 7), max_size=40))
def test_expanded_histograms_are_the_binned_scores_sorted(
    first: list[int], second: list[int]
) -> None:
    scores, places = expanded(
        np.bincount(np.array(first, int), minlength=8),
        np.bincount(np.array(second, int), minlength=8),
    )
    assert scores[places == 0].tolist() == sorted(first)
    assert scores[places == 1].tolist() == sorted(second)


def test_a_site_counts_as_many_held_out_images_as_members_and_no_copies() -> None:
    members, held_out = images(slice(0, 60)), images(slice(50, 85))  # ten are members, too
    found = select(members, held_out, most=500, key=KEY)
    assert found.num_units == found.others.num_units == 25
    known = {image.tobytes() for image in members.images}
    assert not {image.tobytes() for image in found.others.images.images} & known
    assert select(members, held_out, most=7, key=KEY).num_units == 7
    assert select(members, images(slice(0, 0)), most=7, key=KEY).num_units == 0


@settings(max_examples=25)
@given(st.integers(0, 59), st.booleans())
def test_an_image_less_moves_no_coin_and_one_other_image_a_side_at_most(
    row: int, is_member: bool
) -> None:
    members, held_out = images(slice(0, 60)), images(slice(100, 130))
    side = members if is_member else held_out
    kept = np.delete(np.arange(len(side.images)), row % len(side.images))
    less = (side.take(kept), held_out) if is_member else (members, side.take(kept))
    before = select(members, held_out, most=20, key=KEY)
    after = select(*less, most=20, key=KEY)
    for one, two in ((before.members, after.members), (before.others, after.others)):
        was = dict(zip([x.tobytes() for x in one.images.images], one.coins, strict=True))
        now = dict(zip([x.tobytes() for x in two.images.images], two.coins, strict=True))
        assert len(was.keys() - now.keys()) <= 1
        assert len(now.keys() - was.keys()) <= 1
        assert all(was[image] == coin for image, coin in now.items() if image in was)


def test_coins_are_about_half_and_follow_the_sites_key() -> None:
    first = select(images(slice(0, 400)), images(slice(500, 900)), most=400, key=KEY).others
    other = select(images(slice(0, 400)), images(slice(500, 900)), most=400, key=KEY[::-1]).others
    assert 150 < first.coins.sum() < 250  # five deviations
    assert first.images.images.tobytes() != other.images.images.tobytes()


def test_classes_of_a_site_are_balanced_each_and_add_up_to_the_whole() -> None:
    members, held_out = images(slice(0, 300), labelled=True), images(slice(400, 520), labelled=True)
    for most in (500, 31):
        found = select(members, held_out, most=most, key=KEY, by_class=True)
        assert found.num_units == found.others.num_units <= most
        for label in range(10):
            ours, theirs = found.of_class(label)
            assert len(ours) == len(theirs)
    whole = select(members, held_out, most=500, key=KEY, by_class=True)
    expected = np.minimum(
        np.bincount(members.labels, minlength=10), np.bincount(held_out.labels, minlength=10)
    )
    assert whole.num_units == expected.sum()


def test_images_of_one_person_are_one_unit_with_one_coin() -> None:
    found = images(slice(0, 60), labelled=True)
    people = np.repeat(np.arange(20), 3)
    grouped = SiteImages(images=found.images, labels=np.repeat([4, 4, 5, 1], 15), groups=people)
    others = images(slice(100, 130))
    apart = SiteImages(images=others.images, labels=None, groups=np.arange(100, 130))
    chosen = select(grouped, apart, most=500, key=KEY)
    assert chosen.num_units == 20
    for number in range(20):
        rows = chosen.members.unit == number
        assert rows.sum() == 3
        assert len(set(chosen.members.images.groups[rows].tolist())) == 1


@pytest.fixture(scope="module")
def examined() -> tuple[AuditedImages, PooledLayout, np.ndarray]:
    config = load_config(None, SETTINGS)
    weights = to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(1))
    )
    audited = AuditedImages(
        config=config,
        members=images(slice(0, 50)),
        held_out=images(slice(60, 90)),
        seeds=SeedTree(3),
        site="site-01",
        out=Path("unused"),
    )
    return audited, PooledLayout.of(config), weights


def test_histograms_are_those_of_the_attacks_own_scores(
    examined: tuple[AuditedImages, PooledLayout, np.ndarray],
) -> None:
    audited, layout, weights = examined
    kept = []
    examiner = SiteExaminer(keep=lambda images, counts, seconds: kept.append(counts))
    counts = examiner.count(audited, layout=layout, parameters=weights, classes=frozenset())
    chosen = select(
        audited.members,
        audited.held_out,
        most=40,
        key=audited.seeds.child("order").entropy().to_bytes(32, "big"),
    )
    assert chosen.num_units == 30
    model = denoiser_of(audited.config, weights)
    loss = POOLED[0]
    scores = denoising_loss.score(
        to_unit_range(chosen.members.images.images),
        eps=model,
        alpha_bar=model.alpha_bar,
        timesteps=asked_timesteps(model, loss.levels),
        num_noises=3,
        rng=SeedTree(0).child("audit", "pooled", "loss").numpy(),
    )
    expected = np.bincount(loss.bins.of(scores, num_bins=64), minlength=64)
    np.testing.assert_array_equal(counts.attacks[0].members, expected)
    assert [int(each.others.sum()) for each in counts.attacks] == [30, 30]
    assert int(counts.attacks[0].pseudo_members.sum()) == int(chosen.others.coins.sum())
    assert (int(counts.blind.members.sum()), int(counts.blind.others.sum())) == (30, 30)
    # No score ends in an end bin: the range holds what models say.
    for each in counts.attacks:
        assert not (each.members + each.others)[[0, -1]].any()
    layout.check(counts, num_sites=1, are_asked=False)
    assert len(kept) == 1


def test_persons_are_counted_only_where_the_plan_counts_them(
    examined: tuple[AuditedImages, PooledLayout, np.ndarray],
) -> None:
    audited, layout, _ = examined
    sides = {}
    for name in ("members", "held_out"):
        side = getattr(audited, name)
        people = np.arange(len(side.images)) // 2 + (1000 if name == "held_out" else 0)
        sides[name] = dataclasses.replace(side, groups=people)
    own = dataclasses.replace(audited, **sides)
    plan = audited.config.model_copy(
        update={"data": audited.config.data.model_copy(update={"group": "folder:1"})}
    )
    examiner = SiteExaminer()
    assert examiner.able(own, layout=layout).entered == 1  # thirty images
    grouped = dataclasses.replace(own, config=plan)
    assert examiner.able(grouped, layout=layout).entered == 0  # fifteen persons


def test_a_site_with_too_few_images_says_so_and_enters_zeros(
    examined: tuple[AuditedImages, PooledLayout, np.ndarray],
) -> None:
    audited, layout, weights = examined
    few = dataclasses.replace(audited, held_out=images(slice(60, 79)))
    examiner = SiteExaminer()
    assert examiner.able(audited, layout=layout).entered == 1
    assert examiner.able(few, layout=layout).entered == 0
    found = examiner.count(few, layout=layout, parameters=weights, classes=frozenset())
    words = layout.to_words(found)
    assert (words[0], words[1:].any()) == (1, False)


def test_a_class_is_able_where_both_sides_have_enough_of_it() -> None:
    names = ",".join(f'"{digit}"' for digit in range(10))
    overrides = [f"data.class_names=[{names}]", "audit.max_images=800"]
    config = load_config(None, [*SETTINGS, *overrides])
    layout = PooledLayout.of(config)
    held_out = images(slice(900, 1700), labelled=True)
    rows = np.flatnonzero(held_out.labels != 3)
    audited = AuditedImages(
        config=config,
        members=images(slice(0, 800), labelled=True),
        held_out=held_out.take(rows),
        seeds=SeedTree(3),
        site="site-01",
        out=Path("unused"),
    )
    able = SiteExaminer().able(audited, layout=layout).able
    assert able[3] == 0
    assert able[0] == 1
