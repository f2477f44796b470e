"""Rows of the benchmark: which data set, who trusts whom, which method, how much privacy.

The protocol of the field (DPImageBench, Gong et al. 2025, arXiv:2503.14681): 55,000 images to train
on, 5,000 kept back, the 10,000 published test images for evaluation alone; delta = 1 / (N ln N) for
N images to train on; 60,000 labelled synthetic images.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks.row import ALWAYS, BenchmarkRow, Outcome, planned
from phoenix_secure.experiments.benchmarks.table import Column, TableForm

__all__ = ["DATASETS", "NUM_IMAGES", "Method", "Row", "Setting", "Trust", "plan_rows"]

NUM_IMAGES = 60_000
_SITES = 10


class Setting(StrEnum):
    """Where the images are."""

    ONE_PLACE = "one_place"
    SITES_IID = "sites_iid"
    SITES_2SHARDS = "sites_2shards"


class Trust(StrEnum):
    """Who adds the noise: one trusted place, all sites inside secure sums, each site for itself."""

    CENTRAL = "central"
    SUM = "sum"
    SITE_LOCAL = "site-local"


class Method(StrEnum):
    """One noised release; the same, whose images a private classifier selects; DP-SGD; a release, a
    DDPM trained on its images, then DP-SGD."""

    RELEASE = "release"
    SELECTED = "selected"
    DP_SGD = "dp-sgd"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dataset:
    """Numbers of images: in the training part, and kept back of it (held out, for reference)."""

    num_images: int
    image_size: int
    held_out: int = 3000
    reference: int = 2000
    settings: tuple[str, ...] = ()  # that suit its pictures, for every method

    @property
    def num_members(self) -> int:
        return self.num_images - self.held_out - self.reference


_TEXTURE = ("release.features=pixel-hog-patch",)
# `digits` is for practice: it has no published test part, and its held-out images stand in.
DATASETS = {
    "mnist": _Dataset(num_images=60_000, image_size=28, settings=_TEXTURE),
    "fashion-mnist": _Dataset(num_images=60_000, image_size=28, settings=_TEXTURE),
    "cifar10": _Dataset(num_images=50_000, image_size=32, settings=_TEXTURE),
    "digits": _Dataset(
        num_images=1797,
        image_size=8,
        held_out=350,
        reference=100,
        settings=("release.num_features=500",),
    ),
}

# The same steps wherever the noise is made: one noised mean gradient, one step of Adam.
_STEPS = (
    "model.block_channels=[16,32]",  # noise grows with the number of parameters: few
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.class_conditional=true",
    "diffusion.prediction=v",
    "federation.rounds=1000",
    "federation.server_optimizer=fedadam",
    "training.local_steps=1",
    "training.warmup_steps=0",
    "training.weight_decay=0",
    "training.lr_decay=none",
    "privacy.sampling_rate=0.02",
    "privacy.clip_norm=0.5",
    "privacy.physical_batch=128",
    "ema.decay=0.99",
    "sampling.sampler=dpm-solver",
    "sampling.num_steps=15",
)
_STEP_SIZE = 0.005
# A classifier of few parameters bears all images in every step, and hardly any noise.
_SELECTED = (
    "release.share=0.8",
    "release.fit_steps=2000",
    "release.fit_batch=200",
    "release.sharpness=2",
    "model.network=classifier",
    "federation.exchange=gradients",
    "federation.rounds=80",
    "federation.server_optimizer=fedavgm",
    "training.optimizer=sgd",
    "training.learning_rate=1",
    "training.local_steps=1",
    "training.warmup_steps=0",
    "training.lr_decay=none",
    "training.grad_clip=null",
    "privacy.sampling_rate=1",
    "privacy.clip_norm=0.3",
    "ema.decay=0",
    "sampling.refine_steps=300",
)
# Between the two: a DDPM on generated images, which costs no privacy.
_BOTH = (
    "release.share=0.5",
    "release.then=ddpm",
    "release.then_images=20000",
    "release.then_steps=4000",
    "model.block_channels=[32,64]",  # as many as learn the release's images well
    "federation.rounds=300",
)


FORM = TableForm(
    command="dp-images",
    columns=(
        *("dataset", "image_size", "method", "setting", "trust", "epsilon", "delta", "seed"),
        *("accuracy", "kid", "fd", "noise_multiplier", "surplus", "core_hours", "command"),
        "recall",
    ),
    kinds=(
        Column("dataset", "data"),
        Column("epsilon", "epsilon"),
        Column("method", "method"),
        Column("setting", "where"),
        Column("trust", "trust"),
    ),
    shown=(
        Column("accuracy", "accuracy", digits=3),
        Column("kid", "KID", digits=3),
        Column("fd", "FD", digits=1),
        Column("recall", "recall", digits=2),
        Column("noise_multiplier", "noise"),
        Column("surplus", "surplus", digits=2),
        Column("core_hours", "core-hours", digits=2),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(BenchmarkRow):
    """One row of the table."""

    form: ClassVar[TableForm] = FORM
    pixel_classifiers: ClassVar[bool] = False

    dataset: str
    setting: Setting
    trust: Trust
    method: Method
    epsilon: float
    num_images: int = NUM_IMAGES

    @property
    def image_size(self) -> int:
        return self.config.data.image_size or DATASETS[self.dataset].image_size

    @property
    def delta(self) -> float:
        """1 / (N ln N), N being the images to train on as the protocol counts them."""
        num = DATASETS[self.dataset].num_members
        return float(f"{1 / (num * math.log(num)):.3g}")

    @property
    def num_sites(self) -> int:
        return 1 if self.setting is Setting.ONE_PLACE else _SITES

    @property
    def config(self) -> RunConfig:
        return load_config(None if self.method is Method.DP_SGD else "release", self._settings)

    @property
    def label(self) -> str:
        what = (self.dataset, self.setting, self.trust, self.method)
        return f"{'-'.join(what)}-epsilon-{self.epsilon:g}-seed-{self.seed}"

    @property
    def command(self) -> str:
        words = ["phoenix-secure", "benchmark", "dp-images", "--dataset", self.dataset]
        words += ["--setting", self.setting, "--trust", self.trust, "--method", self.method]
        words += ["--epsilon", f"{self.epsilon:g}", "--seed", str(self.seed)]
        if self.num_images != NUM_IMAGES:
            words += ["--num-images", str(self.num_images)]
        return shlex.join([*words, *self.overrides])

    def cells(self, outcome: Outcome) -> dict[str, str]:
        figures = outcome.figures
        shared = outcome.guarantees[-1].get("trust")
        surplus = math.sqrt(self.num_sites) if shared is None else shared["surplus"]
        noise = [each["noise_multiplier"] for each in outcome.guarantees]
        return {
            "dataset": self.dataset,
            "image_size": str(self.image_size),
            "method": self.method.value,
            "setting": self.setting.value,
            "trust": self.trust.value,
            "epsilon": f"{self.epsilon:g}",
            "delta": f"{self.delta:g}",
            "seed": str(self.seed),
            "accuracy": f"{figures.accuracy:.4f}",
            "kid": f"{figures.kid:.4f}",
            "fd": f"{figures.fd:.3f}",
            "recall": f"{figures.recall:.4f}",
            # Of a release and of the steps after it, where there are both.
            "noise_multiplier": " ".join(f"{each:.4f}" for each in noise),
            "surplus": f"{surplus:.4f}",
            "core_hours": f"{outcome.core_hours:.3f}",
            "command": self.command,
        }

    @property
    def _settings(self) -> list[str]:
        data = DATASETS[self.dataset]
        found = [
            f"seed={self.seed}",
            f"data.name={self.dataset}",
            f"data.held_out={data.held_out / data.num_images:.6g}",
            f"data.reference={data.reference / data.num_images:.6g}",
            f"partition.num_sites={self.num_sites}",
            f"partition.scheme={'shards' if self.setting is Setting.SITES_2SHARDS else 'iid'}",
            "partition.shards_per_site=2",
            "privacy.unit=record",
            f"privacy.epsilon={self.epsilon!r}",
            f"privacy.delta={self.delta!r}",
            f"privacy.trust={'sum' if self.trust is Trust.SUM else 'site-local'}",
            "secure_aggregation.word_bits=32",
            "secure_aggregation.dropout=0.1",
            f"secure_aggregation.mode={'off' if self.trust is Trust.CENTRAL else 'on'}",
            *ALWAYS,
        ]
        if self.method is not Method.DP_SGD:
            # A public bound on the images of one site: a power of two above what it holds here.
            largest = 2 * data.num_members // self.num_sites
            found.append(f"release.max_images={1 << (largest.bit_length() - 1)}")
            found += data.settings
        if self.method is Method.SELECTED:
            found += _SELECTED
            found.append(f"training.batch_size={data.num_members // self.num_sites}")  # the divisor
        if self.method in (Method.DP_SGD, Method.BOTH):
            found += _STEPS
            found.append(f"model.space_to_depth={2 if data.image_size > 16 else 1}")
            found += self._steps_by_trust(data)
        if self.method is Method.BOTH:
            found += _BOTH
        return [*found, *self.overrides]

    def _steps_by_trust(self, data: _Dataset) -> tuple[str, ...]:
        rate = float(dict(each.split("=", 1) for each in _STEPS)["privacy.sampling_rate"])
        for override in self.overrides:
            name, _, value = override.partition("=")
            if name == "privacy.sampling_rate":
                rate = float(value)
        batch = max(1, round(rate * data.num_members / self.num_sites))  # the divisor
        if self.trust is Trust.SUM:
            return (
                "federation.exchange=gradients",
                f"training.learning_rate={_STEP_SIZE}",
                "training.grad_clip=null",
                f"training.batch_size={batch}",
            )
        return (
            "training.optimizer=sgd",
            "training.learning_rate=1",
            f"federation.server_learning_rate={_STEP_SIZE}",
            f"training.batch_size={batch}",
        )


def plan_rows(
    *,
    datasets: Sequence[str],
    settings: Sequence[Setting],
    trusts: Sequence[Trust],
    methods: Sequence[Method],
    epsilons: Sequence[float],
    seeds: Sequence[int],
    num_images: int = NUM_IMAGES,
    overrides: Sequence[str] = (),
) -> list[Row]:
    """Every combination that makes sense; seeds vary slowest, so that all rows come once first.

    ``trusts`` empty: ``central`` in one place, ``sum`` at sites.

    Raises:     ConfigError naming the option.
    """
    for name in datasets:
        if name not in DATASETS:
            raise ConfigError(f"--dataset {name}: use {', '.join(DATASETS)}")
    if num_images < 10:
        raise ConfigError(f"--num-images {num_images}: 10 or more, one of each class")
    rows = [
        Row(
            dataset=dataset,
            setting=setting,
            trust=trust,
            method=method,
            epsilon=epsilon,
            seed=seed,
            num_images=num_images,
            overrides=tuple(overrides),
        )
        for seed, dataset, method, epsilon, setting in itertools.product(
            seeds, datasets, methods, epsilons, settings
        )
        for trust in _trusts(setting, trusts)
    ]
    if not rows:
        raise ConfigError(
            "--trust central is of --setting one_place, sum and site-local are of ten sites: no "
            "row is left"
        )
    return planned(rows)


def _trusts(setting: Setting, wished: Sequence[Trust]) -> list[Trust]:
    possible = [Trust.CENTRAL] if setting is Setting.ONE_PLACE else [Trust.SUM, Trust.SITE_LOCAL]
    if not wished:
        return possible[:1]
    return [trust for trust in possible if trust in wished]
