"""A plan that starts from a model: sites that keep it train from it, others do not take part."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from phoenix_secure.diffusion import start_model
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.start import add_model
from phoenix_secure.training.parameters import to_vector


def train(job, path):
    folder = RunFolder(path)
    for _ in job.rounds(job.start(folder, overwrite=True), folder):
        pass
    job.finish(folder)
    return folder


@pytest.mark.long
def test_sites_train_from_the_planned_model_alone(folder_federation, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=8,
    )
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    folder_federation.start()
    job = folder_federation.job("federation.rounds=1", f"model.init_from={tmp_path / 'ddpm'}")
    start = job.backend.plan.config.model.start

    assert start is not None
    assert np.array_equal(job.backend.strategies.start_vector(), to_vector(unet))
    # The sites' owners have not kept the model yet.
    shutil.rmtree(tmp_path / "cache" / "models")
    start_model._kept.cache_clear()
    with pytest.raises(TrainingError, match="of 5 sites take part"):
        train(job, tmp_path / "run")
    assert add_model(str(tmp_path / "ddpm")) == start
    folder = train(job, tmp_path / "run")

    moved = folder.load_state(config=job.config).parameters - to_vector(unet)
    assert 0 < np.abs(moved).max() < 0.1
    assert f"starts from the model {start.sha256[:16]} from elsewhere" in (
        (folder.path / "summary.json").read_text()
    )
