"""Games beside the membership of single images: what is there is found, what is not is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from attacks.federated.dataset_inference import infer
from phoenix_secure.audit import dataset_inference, extraction
from phoenix_secure.audit.choice import choose_attacks
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.markdown import to_markdown
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.report import AuditReport, Outcome
from phoenix_secure.audit.roles import draw_roles
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.rng import SeedTree

SMOKE = PROFILES["smoke"]


def opened(path: Path) -> Target:
    files = dict.fromkeys(("members", "non_members", "reference"))
    return open_target(path, **files, device="cpu", cache_dir=path)


def audit(target: Target, out: Path, *attacks: str, **options) -> AuditReport:
    request = Request(profile=SMOKE, attacks=attacks, **options)
    return run_audit(target, request, out=out).report


def without_model(num: int = 400) -> Target:
    """A target of digits alone; the model is what the test makes of it."""
    digits = load_digits()
    images = AuditImages(
        members=digits.take(np.arange(num)),
        non_members=digits.take(np.arange(num, 2 * num)),
        reference=None,
        member_sites=None,
        num_duplicates=0,
    )
    return Target(kind="samples", sha256="", images=images)


def inferred(monkeypatch, roles, features, *, sites=None):
    """What is found of a model that shows ``features``."""

    class Counted:
        num_queries = 0

    monkeypatch.setattr(dataset_inference, "_features", features)
    monkeypatch.setattr(dataset_inference, "_NUM_SPLITS", 7)
    return dataset_inference.infer_use(
        model=Counted(),
        roles=roles,
        sites=sites,
        profile=SMOKE,
        scale=PixelScale.SIGNED,
        seeds=SeedTree(0),
    )


@pytest.mark.long
def test_a_set_that_was_used_is_told_by_dataset_inference(
    overfitted_run: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(dataset_inference, "_NUM_SPLITS", 25)
    used = audit(
        opened(overfitted_run), tmp_path / "a", "dataset-inference", edition="confidential"
    )
    found = used.dataset_inference
    assert found is not None
    assert [one.suspect for one in found.suspects] == ["all members", "site site-01"]
    assert found.suspects[0].p_value < 0.05  # of 60 images
    assert found.placebo_p > 0.01
    assert found.suspects[0].blind_p > 0.05
    assert found.suspects[1].num_suspect == found.suspects[1].num_unseen <= 60
    assert found.queries_per_record > 10
    assert found.p_adjusted >= found.suspects[0].p_value
    assert [one.name for one in used.attacks] == ["loss"]  # it comes along
    assert "dataset inference" in to_markdown(used)


@pytest.mark.slow
def test_a_set_that_was_seen_once_is_not_told(seen_once_run: Path, tmp_path: Path) -> None:
    once = audit(opened(seen_once_run), tmp_path, "dataset-inference").dataset_inference
    assert once is not None
    assert [one.suspect for one in once.suspects] == ["all members"]
    assert once.p_adjusted > 0.05


def test_sets_that_differ_by_themselves_are_told_blindly(monkeypatch) -> None:
    """A shift that the model shows is no proof of use where the pixels show it as well."""
    images = without_model().images
    paler = dataclasses.replace(
        images.non_members, images=(images.non_members.images // 2).astype(np.uint8)
    )
    roles = draw_roles(
        dataclasses.replace(images, non_members=paler), profile=SMOKE, seeds=SeedTree(0)
    )

    def features(model, x, **options):
        return x.images.reshape(len(x.images), -1)[:, :10].astype(np.float64)

    found = inferred(monkeypatch, roles, features)
    assert found.suspects[0].blind_p < 1e-6


def test_a_site_s_classes_are_not_taken_for_its_membership(monkeypatch) -> None:
    """The model shows the class alone, and each site holds two of the ten."""
    images = without_model(700).images
    labels = images.members.labels
    roles = draw_roles(images, profile=dataclasses.replace(SMOKE, max_choice=20), seeds=SeedTree(0))

    def features(model, x, **options):
        noise = np.random.default_rng(3).normal(0, 0.1, len(x.images))
        return np.stack([x.labels + noise, x.labels**2 + noise], axis=1)

    sites = np.array([f"{label // 2}" for label in labels[roles.members]])
    found = inferred(monkeypatch, roles, features, sites=sites)
    assert [one.suspect for one in found.suspects[1:]] == [f"site {k}" for k in range(5)]
    assert all(one.num_suspect >= 40 for one in found.suspects[1:])
    assert min(one.p_value for one in found.suspects[1:]) > 0.01
    # Against unseen images of all classes, the first site would be told with certainty.
    everything = features(None, roles.evaluation.records)
    inside = roles.evaluation.membership
    first = infer(
        everything[inside][sites == "0"],
        unseen=everything[~inside],
        rng=np.random.default_rng(0),
        num_splits=5,
    )
    assert first.p_value < 1e-9


@pytest.mark.long
def test_use_of_nothing_is_rarely_inferred_from_pixels() -> None:
    """The blind features of two random halves of one set, 60 times."""
    x = to_unit_range(load_digits().images)
    rng, alarms, runs = np.random.default_rng(2), 0, 60
    for _ in range(runs):
        features = dataset_inference._pixel_features(x[rng.permutation(len(x))[:120]])
        found = infer(features[:60], unseen=features[60:], rng=rng, num_splits=5)
        alarms += found.p_value <= 0.05
    assert alarms / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_copies_among_samples_are_extracted_and_claimed() -> None:
    target, rng = without_model(), np.random.default_rng(0)
    x = to_unit_range(target.images.members.images)
    noise = rng.normal(0, 0.02, (120, *x.shape[1:])).astype(np.float32)
    # Forty memorised images, drawn three times each, among unseen digits.
    copies = np.clip(np.repeat(x[:40], 3, axis=0) + noise, -1, 1)
    fresh = to_unit_range(load_digits().images[800:1680])
    found = extraction.extract_members(target, np.concatenate([copies, fresh]), seeds=SeedTree(0))
    assert found.extracted >= 40
    assert found.p_value < 1e-3
    assert found.num_claims == 1000 // 20
    assert found.claims_right > 40
    assert found.claims_right_control <= 2


def test_samples_that_know_no_member_are_rarely_said_to() -> None:
    """Members and unseen images dealt anew from one set, 40 times; samples resemble both."""
    digits, alarms, runs = load_digits(), 0, 40
    samples = to_unit_range(digits.images[1500:1600])
    rng = np.random.default_rng(5)
    for _ in range(runs):
        order = rng.permutation(1500)[:240]
        images = AuditImages(
            members=digits.take(order[:120]),
            non_members=digits.take(order[120:]),
            reference=None,
            member_sites=None,
            num_duplicates=0,
        )
        target = Target(kind="samples", sha256="", images=images)
        found = extraction.extract_members(target, samples, seeds=SeedTree(0))
        alarms += found.p_value <= 0.05
        if found.extracted == 0:
            assert found.rate_high == pytest.approx(3 / 100, abs=0.002)
    assert alarms / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_extraction_is_part_of_the_verdict(pictures: dict[str, Path], tmp_path: Path) -> None:
    from phoenix_secure.pictures import plain_png, save_images

    with np.load(pictures["in"]) as archive:
        save_images(archive["images"], tmp_path / "samples", encode=plain_png)
    target = open_target(
        tmp_path / "samples",
        members=pictures["in"],
        non_members=pictures["out"],
        reference=None,
        device="cpu",
        cache_dir=tmp_path,
    )
    report = audit(target, tmp_path / "out", "extraction", "gsa", "checkpoints", "canaries")
    assert report.extraction is not None
    assert report.extraction.extracted > 60
    assert report.extraction.p_adjusted >= report.extraction.p_value
    assert report.verdict.outcome is Outcome.LEAK
    assert any("extraction tells" in reason for reason in report.verdict.reasons)
    assert "and extraction (Holm)" in report.verdict.false_alarm
    assert set(report.skipped) == {"gsa", "checkpoints", "canaries"}
    assert {one.name for one in report.plan.attacks} == {"nearest", "extraction"}
    assert "Extraction (generate and filter)" in to_markdown(report)


@pytest.mark.long
def test_loss_that_fell_since_the_first_checkpoint_gives_members_away(
    overfitted_run: Path, tmp_path: Path
) -> None:
    target = opened(overfitted_run)
    report = audit(target, tmp_path / "a", "checkpoints")
    (found,) = report.attacks
    assert found.access == "denoiser queries of every kept checkpoint"
    assert found.auc.low > 0.5
    assert found.placebo_inside
    num_models = len(target.run.load_states(config=target.config))
    assert found.queries_per_record == num_models * SMOKE.num_noises


def test_sets_of_persons_are_not_tested_as_if_images_were_independent() -> None:
    target = dataclasses.replace(
        without_model(), samples=to_unit_range(load_digits().images[800:1000])
    )
    roles = draw_roles(target.images, profile=SMOKE, seeds=SeedTree(0))
    for has_persons in (False, True):
        found = choose_attacks(
            target,
            Request(profile=SMOKE, attacks=("nearest", "extraction")),
            roles=roles,
            samples=target.samples,
            scale=PixelScale.SIGNED,
            has_canaries=False,
            has_persons=has_persons,
            seeds=SeedTree(0),
        )
        assert ("extraction" in found.games) is not has_persons
        assert ("several of one person are not" in found.skipped.get("extraction", "")) is (
            has_persons
        )
