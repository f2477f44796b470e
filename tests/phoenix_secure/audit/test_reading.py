"""A model that is read in a wrong way is doubted; one that is read right is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

from others_models import digits, overfit, small_unet
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.reading import PixelScale, Reading, read_model
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.report import Outcome
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import open_target
from phoenix_secure.data.images import to_unit_range

CPU = torch.device("cpu")


def read(unet: torch.nn.Module, prediction: str = "epsilon") -> Reading:
    model = PipelineDenoiser(
        DDPMPipeline(unet, DDPMScheduler(prediction_type=prediction)), device=CPU
    )
    x = Records(images=to_unit_range(digits(0, 40)[0][:, None]))
    return read_model(model, x, with_classes=False, rng=np.random.default_rng(0))


def trained_on(scale: str, *, width: int, steps: int) -> torch.nn.Module:
    unet = small_unet(block_out_channels=(width,))
    return overfit(unet, digits(0, 24)[0], steps=steps, scale=scale)


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trained():
    """By target, the same small network trained for a moment."""
    return {
        prediction: overfit(small_unet(), digits(0, 24)[0], steps=100, prediction=prediction)
        for prediction in ("epsilon", "v_prediction", "sample")
    }


def test_the_usual_scale_is_found_and_not_doubted(trained) -> None:
    assert read(trained["epsilon"]) == Reading(scale=PixelScale.SIGNED)


@pytest.mark.parametrize(
    ("scale", "width"),
    [
        (PixelScale.UNIT, 8),
        # A narrow network takes half the contrast for less of the same.
        pytest.param(PixelScale.HALF, 16, marks=pytest.mark.slow),
    ],
)
def test_another_scale_of_the_training_is_found(scale: PixelScale, width: int) -> None:
    found = read(trained_on(scale.value, width=width, steps=250))
    assert found == Reading(scale=scale)


@pytest.mark.parametrize("stated", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("true", ["epsilon", "v_prediction", "sample"])
def test_another_prediction_than_the_stated_one_is_noticed(trained, stated: str, true: str) -> None:
    found = read(trained[true], stated)
    if stated == true:
        assert found == Reading()
    else:
        assert any(f"read as {true} than as {stated}" in doubt for doubt in found.doubts)


@pytest.mark.slow
def test_pixels_beyond_the_scales_are_noticed() -> None:
    found = read(trained_on("standardised", width=16, steps=250))
    assert any("of mean 0 and deviation 1" in doubt for doubt in found.doubts)


def test_an_untrained_model_keeps_the_usual_scale_and_is_doubted() -> None:
    found = read(small_unet())
    assert found.scale is PixelScale.SIGNED
    assert any("removes no noise" in doubt for doubt in found.doubts)


def test_a_clean_result_of_a_doubted_model_is_inconclusive(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    DDPMPipeline(small_unet(seed=1), DDPMScheduler()).save_pretrained(tmp_path / "model")
    target = open_target(
        tmp_path / "model",
        members=pictures["in"],
        non_members=pictures["out"],
        reference=None,
        device="cpu",
        cache_dir=tmp_path,
    )
    request = Request(profile=profile_named("smoke"), attacks=("loss",))
    report = run_audit(target, request, out=tmp_path / "out").report
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert "removes no noise" in report.verdict.reasons[0]
    assert report.target["process"].startswith("DDPMScheduler, epsilon, 1000 noise levels")


def test_every_scale_is_undone() -> None:
    x = to_unit_range(digits(0, 4)[0][:, None])
    for scale in PixelScale:
        np.testing.assert_allclose(scale.undo(scale.of(x)), x, atol=1e-6)
