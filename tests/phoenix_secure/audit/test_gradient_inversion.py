"""Reconstructions from a run's own gradients: found where they are shown, and beside a control."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.audit.gradient_inversion import inversion_obstacle, invert_gradients
from phoenix_secure.audit.markdown import to_markdown
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.round_loss import RoundLoss
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.config_file import load_config
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.partition import DataPartition, partition_images
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector

CPU = torch.device("cpu")
SETTINGS = ["data.name=digits", "data.max_images=100", "partition.num_sites=2"]
SETTINGS += ["model.block_channels=[8]", "model.mid_attention=false"]


def round_of(tmp_path: Path, *changes: str, **options) -> tuple[RoundLoss, DataPartition, object]:
    """The loss before the first round of a run that is never trained, and its network."""
    config = load_config(None, [*SETTINGS, *changes])
    partition = partition_images(config, seeds=SeedTree(config.seed), cache_dir=tmp_path)
    network = build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for weights in network.parameters():  # a fresh network answers zero to everything
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    state = ServerState.initial(to_vector(network), federation=config.federation)
    loss = RoundLoss(state, config, partition, device=CPU, seeds=SeedTree(5), **options)
    return loss, partition, (config, network)


@pytest.mark.parametrize(
    "changes",
    [
        ("model.attention=[true]", "model.class_conditional=true"),
        ("model.attention=[false]", "diffusion.prediction=edm", "model.space_to_depth=2"),
    ],
    ids=str,
)
def test_a_round_s_gradient_and_its_derivative(changes: tuple[str, ...], tmp_path: Path) -> None:
    loss, partition, (config, network) = round_of(
        tmp_path, *changes, num_draws=2, dtype=torch.float64
    )
    image = to_unit_range(partition.image_set.images[:1])[0].astype(np.float64)
    found = loss.gradient(image, label=3)
    x0 = torch.from_numpy(image).float().expand(2, 1, 8, 8)
    if config.model.space_to_depth > 1:
        x0 = torch.nn.functional.pixel_unshuffle(x0, 2)
    labels = torch.full((2,), 3) if config.model.class_conditional else None
    network.eval()
    Objective(config.diffusion, device=CPU).loss(
        lambda z, t, y: network(z, t, class_labels=y).sample,
        x0,
        labels,
        generator=SeedTree(5).torch(),
    ).mean().backward()
    slow = torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in network.parameters()
        ]
    )
    np.testing.assert_allclose(found, slow.numpy(), rtol=1e-2, atol=1e-5)
    rng = np.random.default_rng(0)
    direction, step = rng.standard_normal(found.shape), rng.standard_normal(image.shape)
    pulled = loss.pulled_back(image, direction, label=3)
    ahead = loss.gradient(image + 1e-4 * step, label=3) @ direction
    behind = loss.gradient(image - 1e-4 * step, label=3) @ direction
    assert (pulled * step).sum() == pytest.approx((ahead - behind) / 2e-4, rel=1e-4)


@pytest.fixture(scope="module")
def five_sites(train, tmp_path_factory) -> Target:
    path = train(
        tmp_path_factory.mktemp("five") / "run",
        "partition.num_sites=5",
        *("model.block_channels=[8]", "model.attention=[false]", "model.mid_attention=false"),
        *("data.max_images=200", "data.held_out=0.4", "data.reference=0.2"),
        *("training.batch_size=8", "training.local_steps=4", "federation.rounds=2"),
        "output.keep_checkpoints=3",
    )
    files = dict.fromkeys(("members", "non_members", "reference"))
    return open_target(path, **files, device="cpu", cache_dir=path)


@pytest.mark.slow
def test_one_step_gives_its_image_away_and_the_sum_of_a_round_does_not(
    five_sites: Target, tmp_path: Path
) -> None:
    assert five_sites.run is not None
    report = invert_gradients(
        five_sites,
        cache_dir=five_sites.run.path,
        seeds=SeedTree(1),
        num_images=6,
        num_iterations=150,
    )
    step, summed, site, total = report.rows
    assert (step.num_reconstructions, site.num_reconstructions) == (6, 5)
    assert (summed.num_reconstructions, total.num_reconstructions) == (5, 1)
    # A sum of few steps hides nothing from who knows timesteps and noise.
    assert summed.recovered >= 3
    assert step.recovered >= 4
    assert step.recovered_control == 0
    assert step.p_value < 0.05
    assert step.psnr > step.psnr_control + 10
    assert total.recovered == 0


@pytest.mark.long
def test_the_views_are_part_of_an_audit(five_sites: Target, tmp_path: Path) -> None:
    quick = dataclasses.replace(PROFILES["smoke"], num_inversions=1, inversion_iterations=3)
    request = Request(profile=quick, attacks=("loss", "gradient-inversion"))
    assert five_sites.run is not None
    report = run_audit(five_sites, request, out=tmp_path, cache_dir=five_sites.run.path).report
    assert report.inversion is not None
    assert [row.view.split()[0] for row in report.inversion.rows] == [
        "one",
        "one",
        "each",
        "the",
    ]
    assert all(row.evaluations > 0 for row in report.inversion.rows)
    assert "What a server could reconstruct" in to_markdown(report)


def test_a_target_without_rounds_is_named(five_sites: Target) -> None:
    assert inversion_obstacle(five_sites) is None
    other = dataclasses.replace(five_sites, run=None)
    assert "needs a run" in (inversion_obstacle(other) or "")
