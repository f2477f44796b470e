"""A whole release over simulated sites: one secure sum, a generator, and its uses."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from built_once import built_once
from command_line import phoenix
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import open_target
from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.exports.bom import to_bom
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.evidence import Event
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.experiments.downstream import downstream_accuracy
from phoenix_secure.federation.heterogeneity.generator import sample_from_run
from phoenix_secure.federation.round.report import FitReport, RoundReport
from phoenix_secure.federation.run import fitting
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.files import sha256_of
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.release.class_sums import class_means, sum_features
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.generator import load_generator, sample_generated
from phoenix_secure.rng import SeedTree

SETTINGS = [
    "data.name=digits",
    "partition.num_sites=5",
    "partition.scheme=shards",
    "federation.rounds=1",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=10",
    "privacy.delta=1e-5",
    "release.features=hogpix",
    "release.num_features=64",
    "release.max_images=1024",
    "release.fit_steps=4",
    "release.fit_batch=40",
    "evaluation.num_images=0",
    "output.num_samples=4",
    "device=cpu",
]
DDPM = [
    "release.then=ddpm",
    "release.then_images=40",
    "model.block_channels=[8,16]",
    "model.attention=[false,false]",
    "model.class_conditional=true",
    "training.batch_size=8",
    "training.local_steps=2",
    "sampling.num_steps=2",
]


def sites_of(*overrides: str) -> SimulatedSites:
    return SimulatedSites(load_config(None, [*SETTINGS, *overrides]), cache_dir=Path("unused"))


def run_in(path: Path, *overrides: str) -> list[object]:
    run, folder = Run(sites_of(*overrides)), RunFolder(path)
    events = list(run.events(run.start(folder, overwrite=False), folder))
    run.finish(folder)
    return events


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished release. Never change it: copy it."""
    return built_once(tmp_path_factory, "released", lambda folder: run_in(folder / "run")) / "run"


@pytest.mark.long
def test_the_sum_is_that_of_all_sites_and_its_noise(released: Path) -> None:
    sites = sites_of()
    layout, terms = sites.strategies.release, sites.terms
    assert layout is not None
    assert terms is not None
    assert terms.grid is not None
    features = FeatureMap(layout, seeds=SeedTree(0))
    exact = sum(
        sum_features(
            sites.partition.site_images(name), features, grid=terms.grid, num_classes=10
        ).words.astype(np.float64)
        for name in sites.sites
    )
    state = RunFolder(released).load_state(config=RunFolder(released).load_config())
    noise = state.parameters.astype(np.float64) * 5 * terms.scale - exact

    assert terms.noise is not None
    deviation = math.sqrt(5 * terms.noise.share_variance)
    assert noise.std() == pytest.approx(deviation, rel=0.1)
    assert abs(noise.mean()) < 4 * deviation / math.sqrt(noise.size)
    means = class_means(exact, grid=terms.grid, num_classes=10)
    assert means.counts.sum() == pytest.approx(
        len(np.concatenate(list(sites.partition.parts.values()))), rel=1e-3
    )


def test_every_site_spends_one_release_of_the_planned_event(released: Path) -> None:
    sites = sites_of()
    assert sites.privacy is not None
    for name in sites.sites:
        (release,) = PrivacyLedger(released / "sites" / name / "privacy.jsonl").releases()
        assert release.event == sites.privacy.event
        assert isinstance(release.event, DiscreteGaussianSum)
        assert release.event.num_shares == 3


def test_the_guarantee_names_its_unit_and_its_trust(released: Path) -> None:
    guarantee = read_summary(released).guarantee
    assert guarantee is not None

    assert guarantee["unit"] == "record"
    assert 9.5 < guarantee["epsilon"] <= 10
    assert guarantee["trust"]["num_colluders"] == 1
    assert guarantee["trust"]["epsilon_alone"] > guarantee["epsilon"]
    assert guarantee["trust"]["surplus"] == pytest.approx(math.sqrt(5 / 3))
    assert "at most 1 of 5 sites work with the server" in guarantee["text"]
    assert set(guarantee["figures"]) >= {"pld (dp-accounting)", "prv (opacus)"}


def test_the_generator_is_in_the_evidence_and_says_what_it_was_fitted_to(released: Path) -> None:
    exported = read_ledger(ledger_file(released)).of(Event.EXPORTED)
    hashes = {
        f"{entry.facts['folder']}/{name}": value
        for entry in exported
        for name, value in entry.facts["files"].items()
    }
    facts = read_summary(released).release
    assert facts is not None

    weights = released / "generator" / "generator.safetensors"
    assert hashes["generator/generator.safetensors"] == sha256_of(weights)
    assert facts["generator_sha256"] == sha256_of(weights)
    (checkpoint,) = read_ledger(ledger_file(released)).of(Event.CHECKPOINT)
    assert facts["sum_sha256"] == checkpoint.facts["parameters_sha256"]
    assert (released / "model" / "release.json").exists()


def test_events_tell_of_the_fit_and_a_second_call_fits_nothing(
    released: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(released, copy)
    run, folder = Run(sites_of()), RunFolder(copy)
    before = sha256_of(copy / "generator" / "generator.safetensors")

    assert list(run.events(run.resume(folder), folder)) == []
    shutil.rmtree(copy / "generator")
    fitted = list(run.events(run.resume(folder), folder))
    assert [event.step for event in fitted if isinstance(event, FitReport)] == [1, 4]
    assert sha256_of(copy / "generator" / "generator.safetensors") == before


def test_a_fit_that_was_stopped_goes_on_to_the_same_generator(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(released, copy)
    run, folder = Run(sites_of()), RunFolder(copy)
    before = sha256_of(copy / "generator" / "generator.safetensors")
    shutil.rmtree(copy / "generator")
    monkeypatch.setattr(fitting, "_KEEP_EVERY", 2)
    monkeypatch.setattr(fitting, "_REPORT_EVERY", 1)

    state = run.resume(folder)
    with contextlib.closing(run.events(state, folder)) as events:
        assert next(event.step for event in events if event.step == 3) == 3  # type: ignore[union-attr]
    assert (copy / "generator" / "fit.safetensors").exists()
    again = Run(sites_of())
    steps = [event.step for event in again.events(again.resume(folder), folder)]  # type: ignore[union-attr]
    assert steps == [3, 4]
    assert not (copy / "generator" / "fit.safetensors").exists()
    assert sha256_of(copy / "generator" / "generator.safetensors") == before


def test_samples_follow_the_seed_and_the_known_classes(released: Path) -> None:
    fitted = load_generator(released / "model", device=torch.device("cpu"))

    def drawn(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return sample_generated(fitted, num_images=20, generator=generator)

    assert drawn(1).shape == (20, 1, 8, 8)
    assert np.abs(drawn(1)).max() <= 1
    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert set(fitted.labels(20)) == set(fitted.known)


@pytest.mark.long
def test_the_commands_take_a_release(released: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    known = load_generator(released / "model", device=torch.device("cpu")).known
    one = phoenix("sample", released, "--num", 2, "--class", known[0], "--out", grid)
    assert one.code == 0
    assert grid.exists()
    refused = phoenix("sample", released, "--steps", 5, "--out", grid)
    assert refused.code != 0
    assert "leave them out" in refused.err
    plan = phoenix("run", released / "config.yaml", "--dry-run", "--format", "json")
    assert plan.code == 0
    assert json.loads(plan.out)["words"] == 10 * (64 + 98 + 1)


def test_a_classifier_learns_from_its_images_alone(released: Path, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    found = downstream_accuracy(released, num_images=200, epochs=2, cache_dir=tmp_path, device=cpu)

    assert found["num_synthetic"] == 200
    assert 0 <= found["accuracy_synthetic"] < found["accuracy_real"]  # four steps draw no digits


@pytest.mark.long
def test_an_audit_sees_samples_only(released: Path, tmp_path: Path) -> None:
    target = open_target(
        released, members=None, non_members=None, reference=None, device="cpu", cache_dir=tmp_path
    )
    found = run_audit(target, Request(profile=profile_named("smoke")), out=tmp_path / "audit")

    assert {attack.name for attack in found.report.attacks} == {
        "nearest",
        "nearest-calibrated",
        "combined",
    }
    assert "release's generator" in found.report.skipped["loss"]


def test_the_report_says_what_it_is_and_recomputes_its_epsilon(released: Path) -> None:
    report = build_report(released)

    assert report.headline.trained.startswith("A generator fitted to one noised sum of features")
    assert "at most 1 of 5 sites work with the server" in report.headline.guarantee
    assert report.value("C2.recomputed") == pytest.approx(report.value("C2.epsilon"), rel=1e-3)
    assert report.value("D1.trust")["the server"]["sum of a round"].startswith(
        "with noise of all sites"
    )
    assert b"generative moment matching network" in to_bom(report)


def test_its_samples_are_the_private_set_of_data_sharing(released: Path) -> None:
    drawn = sample_from_run(released, num_images=30, seeds=SeedTree(1), accept_non_private=False)

    assert drawn.images.images.shape == (30, 1, 8, 8)
    assert drawn.images.labels is not None
    assert "differential privacy per record" in drawn.facts["generator"]["guarantee"]


@pytest.mark.slow
def test_a_ddpm_learns_from_generated_images_alone(tmp_path: Path) -> None:
    events = run_in(tmp_path / "run", *DDPM)
    model = tmp_path / "run" / "model"

    assert [e.what for e in events if isinstance(e, FitReport)] == ["generator"] * 2 + ["ddpm"]
    assert len([e for e in events if isinstance(e, RoundReport)]) == 1
    assert (model / "unet" / "diffusion_pytorch_model.safetensors").exists()
    before = sha256_of(model / "unet" / "diffusion_pytorch_model.safetensors")
    run, folder = Run(sites_of(*DDPM)), RunFolder(tmp_path / "run")
    assert list(run.events(run.resume(folder), folder)) == []
    run.finish(folder)
    assert sha256_of(model / "unet" / "diffusion_pytorch_model.safetensors") == before


@pytest.mark.slow
def test_without_classes_there_is_one_sum(tmp_path: Path) -> None:
    run_in(tmp_path / "run", "release.classes=none", "release.features=pixel-hog")
    fitted = load_generator(tmp_path / "run" / "model", device=torch.device("cpu"))

    assert fitted.class_names == ()
    assert fitted.labels(3).tolist() == [0, 0, 0]


@pytest.mark.slow
def test_a_seeded_release_repeats_and_guarantees_nothing(tmp_path: Path) -> None:
    hashes = set()
    for name in ("first", "second"):
        run_in(tmp_path / name, "privacy.noise_source=seeded")
        summary = read_summary(tmp_path / name)
        assert summary.guarantee is not None
        assert summary.release is not None
        assert summary.guarantee["epsilon"] is None
        hashes.add((summary.release["sum_sha256"], summary.release["generator_sha256"]))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("secure_aggregation.mode=off", "secure_aggregation.mode=on"),
        ("federation.rounds=2", "federation.rounds=1"),
        ("privacy.release_metrics=true", "privacy.release_metrics=false"),
        ("audit.canaries=4", "audit.canaries=0"),
        ("sharing.source=public", "sharing"),
        ("secure_aggregation.word_bits=16", "secure_aggregation.word_bits=32"),
    ],
)
def test_settings_of_another_kind_of_run_are_refused(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        sites_of(override)


def test_trust_sum_is_refused_without_a_release() -> None:
    with pytest.raises(ConfigError, match=r"release\.features"):
        load_config(None, ["privacy.unit=record", "privacy.trust=sum", "privacy.epsilon=1"])


def test_plans_without_a_release_are_written_as_before() -> None:
    written = json.dumps(load_config(None, []).model_dump(mode="json"))

    assert "trust" not in written
    assert '"release"' not in written


@pytest.mark.slow
def test_noise_that_hides_every_class_is_said(tmp_path: Path) -> None:
    run, folder = Run(sites_of("privacy.epsilon=0.01")), RunFolder(tmp_path / "run")
    state = run.start(folder, overwrite=False)

    with pytest.raises(TrainingError, match="hides every class"):
        list(run.events(state, folder))


def test_terms_are_a_function_of_the_settings_alone() -> None:
    first, second = sites_of().terms, sites_of("data.max_images=300").terms
    assert first is not None
    assert second is not None

    assert dataclasses.replace(first, policy_hash=b"", privacy_hash=b"") == dataclasses.replace(
        second, policy_hash=b"", privacy_hash=b""
    )
