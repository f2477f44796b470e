"""A release, then DP-SGD from its DDPM: two runs, one epsilon."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import phoenix_secure as ps
from command_line import phoenix
from phoenix_secure.compliance.accountant import recomputed_epsilon
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.phases import first_folder
from phoenix_secure.federation.run.saved_model import draw, load_any
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.release.generator import FittedGenerator

SETTINGS = [
    "data.name=digits",
    "partition.num_sites=5",
    "partition.scheme=shards",
    "federation.rounds=2",
    "federation.exchange=gradients",
    "federation.server_optimizer=fedadam",
    "training.local_steps=1",
    "training.batch_size=14",
    "training.grad_clip=null",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=4",
    "privacy.delta=1e-5",
    "privacy.sampling_rate=0.05",
    "release.features=hogpix",
    "release.num_features=64",
    "release.max_images=1024",
    "release.fit_steps=3",
    "release.fit_batch=40",
    "release.share=0.5",
    "release.then=ddpm",
    "release.then_images=40",
    "release.then_steps=2",
    "release.then_batch=8",
    "model.block_channels=[8,16]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.norm_groups=4",
    "model.class_conditional=true",
    "sampling.sampler=ddim",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.num_samples=4",
    "device=cpu",
]
LOCAL = [
    "privacy.trust=site-local",
    "partition.num_sites=1",
    "partition.scheme=iid",
    "secure_aggregation.mode=off",
    "federation.exchange=updates",
    "training.optimizer=sgd",
    "training.learning_rate=1",
]


def settings(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


@pytest.mark.parametrize(
    "where",
    [
        pytest.param([], id="five sites"),
        pytest.param(LOCAL, id="one place", marks=pytest.mark.slow),
    ],
)
def test_both_phases_together_spend_one_epsilon(where: list[str], tmp_path: Path) -> None:
    run = ps.run(settings(*where), run_dir=tmp_path / "run", progress=False)

    first = ps.open_run(first_folder(run.path)).summary.guarantee
    guarantee = run.summary.guarantee
    assert first is not None
    assert guarantee is not None
    assert 1.98 < first["epsilon"] <= 2
    assert 3.96 < guarantee["epsilon"] <= 4
    assert "this is counted in" in guarantee["text"]
    # By the sites' own ledgers: the events of both runs compose to what is claimed.
    spent = [
        event
        for folder in (first_folder(run.path), run.path)
        for event in PrivacyLedger(folder / "sites" / "site-01" / "privacy.jsonl").events()
    ]
    assert epsilon_of(spent, delta=1e-5).value == pytest.approx(guarantee["epsilon"], rel=1e-6)
    assert recomputed_epsilon(spent, delta=1e-5) == pytest.approx(guarantee["epsilon"], rel=0.01)
    assert all(
        value == pytest.approx(guarantee["epsilon"], abs=1e-5)
        for value in guarantee["per_site"].values()
    )
    # More than what would be left if epsilons added up.
    assert epsilon_of(spent[1:], delta=1e-5).value > 4 - first["epsilon"] + 0.1
    # It went on from the release's DDPM.
    start = run.config.model.start
    assert start is not None
    assert start.origin == "run"
    if not where:
        assert all(isinstance(event, DiscreteGaussianSum) for event in spent)
        report = run.report(pdf=False).written.report
        assert report.value("C2.recomputed") == pytest.approx(guarantee["epsilon"], rel=0.01)
        assert not report.headline.failures


SELECTED = [
    "release.then=none",
    "release.then_steps=null",
    "model.network=classifier",
    "model.class_conditional=false",
    "federation.server_optimizer=fedavgm",
    "training.optimizer=sgd",
    "training.learning_rate=1",
    "training.batch_size=250",
    "privacy.sampling_rate=1",
    "privacy.clip_norm=0.3",
    "ema.decay=0",
    "sampling.refine_steps=20",
]
SELECTED_IN_ONE_PLACE = [
    *SELECTED,
    "privacy.trust=site-local",
    "partition.num_sites=1",
    "partition.scheme=iid",
    "secure_aggregation.mode=off",
    "release.max_images=2048",
    "training.batch_size=1250",
]


@pytest.mark.long
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(SELECTED, id="five sites"),
        pytest.param(SELECTED_IN_ONE_PLACE, id="one place"),
        pytest.param(
            [*SELECTED, "privacy.trust=site-local"],
            id="each site for itself",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_classifier_selects_what_the_release_draws(where: list[str], tmp_path: Path) -> None:
    config = settings(*where, "privacy.epsilon=20", "federation.rounds=6", "release.fit_steps=80")
    run = ps.run(config, run_dir=tmp_path / "run", progress=False)

    guarantee = run.summary.guarantee
    assert guarantee is not None
    assert 19.8 < guarantee["epsilon"] <= 20
    spent = [
        event
        for folder in (first_folder(run.path), run.path)
        for event in PrivacyLedger(folder / "sites" / "site-01" / "privacy.jsonl").events()
    ]
    assert len(spent) == 7
    assert all(isinstance(event, DiscreteGaussianSum) for event in spent)
    assert recomputed_epsilon(spent, delta=1e-5) == pytest.approx(guarantee["epsilon"], rel=0.01)
    # The classifier has learned, and more of the samples are of the class that it reads.
    fitted = load_any(run.path / "model", device=torch.device("cpu"))
    assert isinstance(fitted, FittedGenerator)
    assert fitted.classifier is not None
    digits = load_digits()
    assert (fitted.classifier(digits.images) == digits.labels).mean() > 0.6
    samples = run.sample(40)
    # Steps after the last round moved the release's own generator, and are kept.
    of_release = load_any(first_folder(run.path) / "model", device=torch.device("cpu"))
    assert isinstance(of_release, FittedGenerator)
    weights, earlier = fitted.network.state_dict(), of_release.network.state_dict()
    assert not all(torch.equal(value, earlier[name]) for name, value in weights.items())
    assert (run.path / "generator" / "release.json").exists()
    selected = (fitted.classifier(samples.images) == samples.labels).mean()
    plain = draw(
        replace(fitted, classifier=None), num_images=40, generator=torch.Generator().manual_seed(0)
    )
    assert selected > (fitted.classifier(from_unit_range(plain)) == fitted.labels(40)).mean() + 0.1
    report = run.report().written.report
    assert report.value("C2.recomputed") == pytest.approx(guarantee["epsilon"], rel=0.01)
    assert not report.headline.failures


def test_a_classifier_without_a_release_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    config = settings(*SELECTED).steps_phase(None)
    with pytest.raises(ConfigError, match=r"model\.init_from, or set release\.features"):
        ps.run(config, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.yaml").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="no release's generator"):
        ps.run(config, f"model.init_from={tmp_path / 'folder'}", run_dir=tmp_path / "run")


@pytest.mark.long
def test_the_plan_of_a_classifier_needs_no_release_yet(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("seed: 0\n")
    # A setting that protects is given once on a command line.
    given = dict(each.split("=", 1) for each in (*SETTINGS, *SELECTED))
    overrides = [f"{name}={value}" for name, value in given.items()]
    planned = phoenix("run", file, *overrides, "--dry-run", "--format", "json")

    assert planned.code == 0, planned.err
    assert 3.9 < json.loads(planned.out)["steps"]["privacy_epsilon"] <= 4


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("federation.exchange=updates", "exchange"),
        ("privacy.unit=group", r"privacy\.unit"),
        ("ema.decay=0.9", r"ema\.decay=0"),
        ("release.then=ddpm", r"release\.then=none"),
        ("release.classes=none", r"release\.classes=labels"),
    ],
)
def test_settings_that_no_classifier_has_are_refused(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        settings(*SELECTED, override)


@pytest.mark.slow
def test_a_run_that_was_stopped_in_its_release_goes_on(tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818 - what a user does
        pass

    def stop(event: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        ps.run(settings(), run_dir=tmp_path / "run", on_event=stop, progress=False)
    assert not (tmp_path / "run").exists()

    again = phoenix("resume", tmp_path / "run", "--format", "json")
    assert again.code == 0, again.err
    assert ps.open_run(tmp_path / "run").summary.rounds == 2
    # A finished release is not made twice, and another one is not taken for it.
    refused = phoenix("resume", tmp_path / "run", "--format", "json")
    assert refused.code == 0
    ledger = PrivacyLedger(tmp_path / "run-release" / "sites" / "site-01" / "privacy.jsonl")
    assert len(ledger.events()) == 1
    with pytest.raises(ConfigError, match="already holds a run"):
        ps.run(settings(), run_dir=tmp_path / "run", progress=False)


def test_a_release_with_other_settings_is_not_gone_on_from(tmp_path: Path) -> None:
    other = settings("release.fit_steps=2").release_phase()
    RunFolder(tmp_path / "run-release").create(other, overwrite=False)

    with pytest.raises(ConfigError, match="other settings"):
        ps.run(settings(), run_dir=tmp_path / "run", progress=False)


@pytest.mark.long
def test_the_plan_names_the_guarantee_of_both(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("seed: 0\n")
    planned = phoenix("run", file, *SETTINGS, "--dry-run", "--format", "json")

    assert planned.code == 0, planned.err
    plans = json.loads(planned.out)
    assert plans["release"]["privacy_epsilon"] <= 2
    assert 3.9 < plans["steps"]["privacy_epsilon"] <= 4


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("release.then_steps=null", r"release\.then_steps"),
        ("release.then=none", r"release\.then=ddpm"),
        ("privacy.sampling_rate=0", "sampling_rate"),
        ("exchange.personal=[last-layers]", r"exchange\.personal"),
    ],
)
def test_phases_that_are_no_runs_are_refused_at_once(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        settings(override)


def test_a_start_whose_spending_nobody_knows_is_not_counted() -> None:
    with pytest.raises(ConfigError, match="with_start counts an earlier run"):
        load_config(None, ["privacy.unit=record", "privacy.epsilon=1", "privacy.with_start=true"])
