"""Other people's models are asked the right question, on the right scale, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler

from others_models import digits, overfit, save, small_unet
from phoenix_secure.audit.attack import query_attacks
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.questions import ask_every_way, questions_of
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.diffusion.model_folder import load_model
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.rng import SeedTree

CPU = torch.device("cpu")
SMOKE = profile_named("smoke")


def opened(folder: Path, members: Path, non_members: Path) -> Target:
    files = {"members": members, "non_members": non_members, "reference": None}
    return open_target(folder, **files, device="cpu", cache_dir=folder)


def of_class(folder: Path) -> PipelineDenoiser:
    return PipelineDenoiser(load_model(folder, device=CPU).pipeline, device=CPU)


def records(num: int = 30) -> Records:
    pixels, labels = digits(0, num)
    return Records(images=to_unit_range(pixels[:, None]), labels=labels)


def test_each_image_is_asked_with_its_own_class(tmp_path: Path) -> None:
    """SimA by hand: minus the fourth powers of the noise that the network sees in the image."""
    model = of_class(save(small_unet(num_class_embeds=10), tmp_path / "model"))
    x = records()
    seeds = SeedTree(0)
    attacks = ask_every_way(
        lambda asked: query_attacks(asked, profile=SMOKE, seeds=seeds),
        model,
        labels=x.labels,
        scale=PixelScale.SIGNED,
    )
    sima = next(attack for attack in attacks if attack.name == "sima")
    setting = sima.settings[0]
    assert setting.endswith(", its class")
    t = int(setting.removeprefix("t=").split(",")[0])
    unet = load_model(tmp_path / "model", device=CPU).pipeline.unet.eval()
    with torch.no_grad():
        steps = torch.full((len(x.images),), t)
        labels = torch.from_numpy(x.labels)
        eps = unet(torch.from_numpy(x.images), steps, class_labels=labels).sample.numpy()
    oracle = -(eps.astype(np.float64) ** 4).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sima.score(x, setting), oracle, rtol=1e-4)
    every = {attack.name: attack for attack in attacks}["loss"]
    together = every.scores(x)
    assert set(together) == set(every.settings)
    for name in every.settings[:2]:
        np.testing.assert_allclose(together[name], every.score(x, name), rtol=1e-9)


def test_a_model_with_a_null_class_is_asked_both_ways(tmp_path: Path) -> None:
    unet = small_unet(num_class_embeds=11)
    model = PipelineDenoiser(PhoenixPipeline(unet, load_scheduler()), device=CPU)
    x = records()
    assert questions_of(model, labels=x.labels) == ("its class", "no class")
    assert questions_of(model, labels=None) == ("no class",)
    asked = [model(x.images, np.full(30, 50)), model.asking(10)(x.images, np.full(30, 50))]
    assert np.array_equal(*asked)
    assert not np.array_equal(asked[0], model.asking(3)(x.images, np.full(30, 50)))


def load_scheduler():
    from diffusers import DDPMScheduler

    return DDPMScheduler()


@pytest.mark.long
def test_an_overfitted_model_is_found_by_class_and_on_its_own_scale(tmp_path: Path) -> None:
    """Asked as class 9 for every image, or on the wrong scale, the same model shows less."""
    inside, outside = digits(0, 24), digits(24, 72)
    unet = small_unet(num_class_embeds=10, block_out_channels=(16,))
    overfit(unet, inside[0], labels=inside[1], scale="[0, 1]")
    save(unet, tmp_path / "model")
    np.savez(tmp_path / "in.npz", images=inside[0], labels=inside[1])
    np.savez(tmp_path / "out.npz", images=outside[0], labels=outside[1])
    target = opened(tmp_path / "model", tmp_path / "in.npz", tmp_path / "out.npz")
    request = Request(profile=SMOKE, attacks=("nearest", "loss"))
    findings = run_audit(target, request, out=tmp_path / "audit")
    report, samples = findings.report, findings.samples
    loss = next(one for one in report.attacks if one.name == "loss")
    assert loss.setting.endswith("its class, pixels in [0, 1]")
    assert loss.auc.value > 0.9
    assert "The attacker knows the class of each image." in report.game
    assert report.target["pixel scale"].startswith("[0, 1]")
    assert samples is not None
    assert np.quantile(samples, 0.05) < -0.5  # as black as the images


def test_a_question_on_the_unit_scale_shows_the_network_those_pixels(tmp_path: Path) -> None:
    model = of_class(save(small_unet(), tmp_path / "model"))
    x = records()
    made = {
        scale: ask_every_way(
            lambda asked: query_attacks(asked, profile=SMOKE, seeds=SeedTree(0)),
            model,
            labels=None,
            scale=scale,
        )
        for scale in (PixelScale.SIGNED, PixelScale.UNIT)
    }
    signed, unit = (next(a for a in of if a.name == "sima") for of in made.values())
    assert unit.settings[0] == f"{signed.settings[0]}, pixels in [0, 1]"
    shifted = Records(images=(x.images + 1) / 2)
    found = unit.score(x, unit.settings[0])
    np.testing.assert_allclose(found, signed.score(shifted, signed.settings[0]), rtol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_is_read_as_its_scheduler_reads_it(prediction: str, tmp_path: Path) -> None:
    scheduler = EDMEulerScheduler(prediction_type=prediction)
    save(small_unet(), tmp_path / "model", scheduler=scheduler)
    model = of_class(tmp_path / "model")
    unet = load_model(tmp_path / "model", device=CPU).pipeline.unet.eval()
    z, t = records(5).images, np.array([50, 200, 400, 600, 800])
    a = torch.from_numpy(model.alpha_bar[t]).float().view(-1, 1, 1, 1)
    sigma, x = ((1 - a) / a).sqrt(), torch.from_numpy(z) / a.sqrt()
    with torch.no_grad():
        raw = unet(
            scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma).flatten()
        ).sample
    clean = scheduler.precondition_outputs(x, raw, sigma)
    np.testing.assert_allclose(model(z, t), ((x - clean) / sigma).numpy(), rtol=1e-3, atol=1e-4)
