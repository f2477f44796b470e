"""Gradients of the audited network, tensor by tensor, and what a classifier makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

from attacks import gsa
from attacks.denoiser import CommonNoise
from attacks.shadows import complementary_pairs
from attacks.statistics.auc import auc
from others_models import digits, overfit, small_unet
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.roles import Group, Roles
from phoenix_secure.audit.shadows import Shadow
from phoenix_secure.audit.significance import rank_p_value
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.audit.white_box import GradientNormsOf, score_gsa
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.rng import SeedTree

CPU = torch.device("cpu")
SMOKE = PROFILES["smoke"]


def denoiser(unet: torch.nn.Module, prediction: str = "epsilon") -> PipelineDenoiser:
    scheduler = DDPMScheduler(prediction_type=prediction)
    return PipelineDenoiser(DDPMPipeline(unet, scheduler), device=CPU)


@pytest.mark.parametrize("label", [-1, 3])
def test_norms_are_those_of_one_backward_pass_an_image(label: int) -> None:
    classes = {} if label < 0 else {"num_class_embeds": 10}
    unet = small_unet(**classes)
    x, steps, seeds = to_unit_range(digits(0, 3)[0][:, None]), [50, 400], SeedTree(1)
    norms = GradientNormsOf(
        denoiser(unet, "v_prediction"), label=label, shape=x.shape[1:], seeds=seeds
    )
    noise = CommonNoise(seeds.numpy(), shape=x.shape[1:])
    scheduler, expected = DDPMScheduler(), []
    options = {} if label < 0 else {"class_labels": torch.full((1,), label)}
    for image in torch.from_numpy(x):
        unet.zero_grad()
        for t in steps:
            e = torch.from_numpy(noise.draw(t)).float()[None]
            z = scheduler.add_noise(image[None], e, torch.tensor([t]))
            a = scheduler.alphas_cumprod[t]
            v = unet(z, torch.tensor([t]), **options).sample
            seen = a.sqrt() * v + (1 - a).sqrt() * z
            (((seen - e) ** 2).mean() / len(steps)).backward()
        expected.append([0 if p.grad is None else float(p.grad.norm()) for p in unet.parameters()])
    np.testing.assert_allclose(norms(x, steps), expected, rtol=1e-3, atol=1e-6)


def roles_of(x: np.ndarray, membership: np.ndarray) -> Roles:
    group = Group(records=Records(images=x), membership=membership)
    return Roles(
        choice=group,
        evaluation=group,
        calibration=None,
        members=np.flatnonzero(membership),
        non_members=np.flatnonzero(~membership),
        choice_source="",
    )


@pytest.mark.slow
def test_members_of_an_overfitted_network_are_found_by_its_gradients() -> None:
    pixels = digits(0, 80)[0]
    x = to_unit_range(pixels[:, None])
    inclusion = complementary_pairs(80, num_pairs=1, rng=np.random.default_rng(0))
    membership = np.arange(80) < 40

    def trained(rows: np.ndarray, seed: int) -> PipelineDenoiser:
        unet = small_unet(seed=seed, block_out_channels=(16,))
        return denoiser(overfit(unet, pixels[rows], steps=300))

    found = score_gsa(
        model=trained(membership, 0),
        shadows=[
            Shadow(model=trained(rows, 1 + k), inclusion=rows) for k, rows in enumerate(inclusion)
        ],
        roles=roles_of(x, membership),
        profile=SMOKE,
        seeds=SeedTree(0),
    )
    assert auc(found.scores, membership=membership).value > 0.75
    assert found.queries_per_record == (4 + 2) * 3


@pytest.mark.long
def test_gradients_that_know_nothing_rarely_raise_an_alarm() -> None:
    """Images differ in their gradients, and members do not: the audit's own test, 150 times."""
    rng, alarms, runs = np.random.default_rng(1), 0, 150
    membership = np.arange(80) < 40
    for _ in range(runs):
        inclusion = complementary_pairs(80, num_pairs=1, rng=rng)
        of_image = rng.normal(0, 1, (80, 3))
        models = [np.exp(of_image + 0.3 * rng.normal(0, 1, (80, 3))) for _ in range(3)]
        attack = gsa.fit(models[:2], inclusion=list(inclusion), rng=rng, num_trees=20)
        alarms += rank_p_value(attack.score(models[2]), membership=membership) <= 0.05
    assert 0 < alarms / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.slow
def test_a_run_is_attacked_by_its_gradients(train, tmp_path: Path) -> None:
    path = train(
        tmp_path / "run",
        *("partition.num_sites=2", "data.max_images=200", "data.held_out=0.3"),
        *("data.reference=0.3", "model.block_channels=[8,8]", "training.local_steps=4"),
        *("training.batch_size=8", "federation.rounds=2"),
    )
    files = dict.fromkeys(("members", "non_members", "reference"))
    target: Target = open_target(path, **files, device="cpu", cache_dir=path)
    tiny = dataclasses.replace(SMOKE, num_shadow_pairs=1, max_records=20)
    report = run_audit(target, Request(profile=tiny, attacks=("gsa",)), out=tmp_path).report
    assert [one.name for one in report.attacks] == ["gsa"]
    assert report.attacks[0].access == "weights and shadow models"
    assert {one.name: one.access for one in report.plan.attacks} == {
        "gsa": "weights and shadow models"
    }
