"""Sums of gradients step by step: the weights of one place that holds all images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import load_vector
from phoenix_secure.training.schedule import batches, learning_rate

SETTINGS = [
    "data.name=digits",
    "partition.num_sites=10",
    "partition.scheme=shards",
    "federation.exchange=gradients",
    "federation.rounds=4",
    "data.max_images=600",
    # Gradients of a fresh network have larger coordinates than updates: nothing may be clipped.
    "secure_aggregation.word_bits=32",
    "secure_aggregation.clip_value=16",
    "secure_aggregation.clip_norm=64",
    "training.local_steps=1",
    "training.batch_size=8",
    "training.grad_clip=null",
    "training.warmup_steps=2",
    "model.block_channels=[8]",
    "model.attention=[false]",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=4",
    "device=cpu",
]
SGD = ["training.optimizer=sgd", "training.learning_rate=0.5"]
MOMENTUM = [*SGD, "federation.server_optimizer=fedavgm"]
ADAM = ["federation.server_optimizer=fedadam", "training.learning_rate=0.005"]
WHOLE_SITES = ["training.batch_size=1000"]


def sites_of(*overrides: str) -> SimulatedSites:
    return SimulatedSites(load_config(None, [*SETTINGS, *overrides]), cache_dir=Path("unused"))


def trained(sites: SimulatedSites, path: Path) -> np.ndarray:
    run, folder = Run(sites), RunFolder(path)
    for report in run.rounds(run.start(folder, overwrite=False), folder):
        assert report.secure is None or report.secure.clipped == 0
    return folder.load_state(config=sites.config).parameters


class OnePlace:
    """All images together: one batch, one backward pass, one optimizer; no federation in it."""

    def __init__(self, sites: SimulatedSites) -> None:
        self.config: RunConfig = sites.config
        self._sites = {name: sites.partition.site_images(name) for name in sites.sites}
        self.network = build_unet(
            self.config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0)
        )
        load_vector(self.network, sites.strategies.start_vector())
        self._objective = Objective(self.config.diffusion, device=torch.device("cpu"))

    def gradients(self, step: int) -> Iterator[torch.nn.Parameter]:
        """The parameters, with the gradient of the mean loss over the union of the batches."""
        pairs, shares = [], []
        total = sum(len(site.images) for site in self._sites.values())
        for name, site in self._sites.items():
            seeds = SeedTree(0).child("site", name, "round", step + 1)
            count = min(self.config.training.batch_size, len(site.images))
            rng = seeds.child("batches").numpy()
            (index,) = batches(len(site.images), batch_size=count, num_steps=1, rng=rng)
            x0 = torch.from_numpy(site.images[index]).float() / 127.5 - 1
            pairs.append(self._objective.pair(x0, generator=seeds.child("noise").torch()))
            # Each image of the union counts alike where sites and batches are of one size, and
            # where whole sites are the batches.
            shares.append(torch.full((count,), len(site.images) / total / count))
        inputs, times, target = (
            torch.cat([getattr(pair, name) for pair in pairs])
            for name in ("inputs", "times", "target")
        )
        error = (self.network(inputs, times).sample - target).square().flatten(1).mean(1)
        self.network.zero_grad()
        (torch.cat(shares) * error).sum().backward()
        yield from self.network.parameters()

    def rate(self, step: int) -> float:
        rounds = self.config.federation.rounds
        return learning_rate(self.config.training, step=step, num_steps=rounds)

    @property
    def weights(self) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([p.reshape(-1) for p in self.network.parameters()]).numpy().copy()

    def by_torch(self, momentum: float) -> np.ndarray:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1.0, momentum=momentum)
        for step in range(self.config.federation.rounds):
            list(self.gradients(step))
            optimizer.param_groups[0]["lr"] = self.rate(step)
            optimizer.step()
        return self.weights

    def by_adam(self) -> np.ndarray:
        """Reddi et al. (2021), Algorithm 2, written down once more."""
        settings = self.config.federation
        m = [torch.zeros_like(p, dtype=torch.float64) for p in self.network.parameters()]
        v = [torch.full_like(each, settings.server_tau**2) for each in m]
        for step in range(settings.rounds):
            for p, first, second in zip(self.gradients(step), m, v, strict=True):
                assert p.grad is not None
                gradient = p.grad.double()
                first.mul_(settings.server_momentum).add_((1 - settings.server_momentum) * gradient)
                second.mul_(settings.server_beta2)
                second.add_((1 - settings.server_beta2) * gradient.square())
                change = first / (second.sqrt() + settings.server_tau)
                p.data.sub_((self.rate(step) * change).float())
        return self.weights


@pytest.mark.parametrize(
    ("overrides", "momentum", "batch"),
    [
        pytest.param(SGD, 0.0, WHOLE_SITES, marks=pytest.mark.slow),
        pytest.param(MOMENTUM, 0.9, WHOLE_SITES, marks=pytest.mark.slow),
        pytest.param(MOMENTUM, 0.9, [], marks=pytest.mark.slow),
        pytest.param(ADAM, None, WHOLE_SITES, marks=pytest.mark.slow),
        (ADAM, None, []),
    ],
)
def test_ten_sites_with_two_label_shards_train_like_one_place(
    overrides: list[str], momentum: float | None, batch: list[str], tmp_path: Path
) -> None:
    sites = sites_of(*overrides, *batch)
    assert max(np.unique(sites.partition.site_images(n).labels).size for n in sites.sites) <= 4
    together = OnePlace(sites)
    expected = together.by_adam() if momentum is None else together.by_torch(momentum)
    found = trained(sites, tmp_path / "run")

    terms, settings = sites.terms, sites.config.federation
    assert terms is not None
    num_images = sum(len(part) for part in sites.partition.parts.values())
    rounding = terms.rounding_bound(num_sites=10, num_images=num_images)
    reach = {None: 1 / settings.server_tau, 0.0: 1.0, 0.9: 10.0}[momentum]
    rates = sum(together.rate(step) for step in range(settings.rounds))
    bound = rates * reach * rounding
    moved = np.abs(expected - sites.strategies.start_vector()).max()
    assert moved > 100 * bound if momentum is not None else moved > 0.01
    assert np.abs(found - expected).max() < bound + 1e-6


@pytest.mark.long
def test_without_secure_aggregation_the_steps_are_the_same(tmp_path: Path) -> None:
    sites = sites_of(*SGD, *WHOLE_SITES, "secure_aggregation.mode=off")
    found = trained(sites, tmp_path / "run")
    assert np.abs(found - OnePlace(sites).by_torch(0.0)).max() < 1e-6


@pytest.mark.long
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    fewer = [*ADAM, "partition.num_sites=5", "data.max_images=200", "federation.rounds=3"]
    whole = trained(sites_of(*fewer), tmp_path / "whole")
    run, folder = Run(sites_of(*fewer)), RunFolder(tmp_path / "run")
    rounds = run.rounds(run.start(folder, overwrite=False), folder)
    assert isinstance(next(rounds), RoundReport)
    rounds.close()

    again = Run(sites_of(*fewer))
    reports = list(again.rounds(again.resume(folder), folder))
    assert [report.round_number for report in reports] == [2, 3]
    assert reports[0].loss is not None
    assert np.array_equal(folder.load_state(config=again.config).parameters, whole)


@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        (["training.local_steps=2", *SGD], "needs training.local_steps=1"),
        ([], "needs training.optimizer=sgd"),
        ([*ADAM, "training.optimizer=sgd"], "needs training.optimizer=adamw"),
        ([*SGD, "training.grad_clip=1"], "needs training.grad_clip=null"),
        ([*SGD, "training.weight_decay=0.1"], "needs training.weight_decay=0"),
        ([*SGD, "training.proximal_mu=0.1"], "needs training.proximal_mu=0"),
        ([*SGD, "exchange.personal=[norms]"], r"needs exchange.personal=\[\]"),
        ([*SGD, "exchange.upload=alternate"], "needs exchange.upload=all"),
        ([*SGD, "filtering.threshold=0.5"], "needs filtering.threshold=0"),
        ([*SGD, "privacy.unit=site", "privacy.epsilon=1"], "needs privacy.unit="),
    ],
)
def test_what_has_no_part_in_a_step_is_refused_in_one_line(overrides: list[str], fix: str) -> None:
    with pytest.raises(ConfigError, match=f"federation.exchange=gradients {fix}") as refused:
        load_config(None, [*SETTINGS, *overrides])
    assert "\n" not in str(refused.value)


def test_plans_of_updates_keep_their_bytes() -> None:
    assert "exchange" not in load_config(None, []).federation.model_dump(mode="json")
