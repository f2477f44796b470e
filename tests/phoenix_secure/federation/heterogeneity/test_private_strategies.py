"""Record-level differential privacy beside the strategies: what a site trains and answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.heterogeneity.sharing import load_shared
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer

SETTINGS = [
    "data.name=digits",
    "model.block_channels=[8,16]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "training.local_steps=2",
    "training.batch_size=8",
    "privacy.unit=record",
    "privacy.noise_multiplier=1.0",
    "privacy.sampling_rate=0.2",
    "sharing.source=public",
    "sharing.name=mnist-5k",
    "sharing.alpha=0.5",
    "sharing.num_images=20",
    "sharing.warmup_steps=2",
    "exchange.personal=[last-layers]",
    "exchange.upload=alternate",
]


@pytest.mark.long
def test_the_private_trainer_composes_with_sharing_personal_layers_and_parts(
    tmp_path: Path,
) -> None:
    config, seeds = load_config(None, SETTINGS), SeedTree(3)
    cpu = torch.device("cpu")
    run = RunStrategies(
        config,
        form=(1, 8),
        num_classes=0,
        seeds=seeds,
        device=cpu,
        load_shared=lambda: load_shared(
            config, size=20, form=(1, 8), class_names=(), seeds=seeds, cache_dir=tmp_path
        ),
    )
    own = SiteImages(images=np.full((30, 1, 8, 8), 200, np.uint8), labels=None)
    images, strategies = run.site("site-01", own, folder=tmp_path / "memory", seeds=SeedTree(0))
    # Shared images are further records of the sampler; own ones alone are the site's weight.
    assert len(images.images) == 30 + 10
    trainer = PrivateTrainer(config, num_classes=0, device=cpu, noise_multiplier=1.0)
    start = run.start_vector()
    answer = strategies.answer(
        TrainRequest(round_number=1, parameters=run.exchange.to_sites(start)),
        train=lambda vector, number, _: trainer.train(
            vector, images, round_number=number, seeds=seeds.child("training")
        ),
    )
    assert answer.delta.shape == (run.exchange.num_uploaded,)
    assert np.isfinite(answer.delta).all()
    assert answer.num_images == 30
    kept = run.memory(tmp_path / "memory").of(1)
    assert kept is not None
    assert not np.array_equal(kept.personal, start[run.exchange.personal])


def test_the_warm_up_needs_no_noise_and_moves_the_first_model(tmp_path: Path) -> None:
    config, seeds = load_config(None, SETTINGS), SeedTree(3)
    run = RunStrategies(
        config,
        form=(1, 8),
        num_classes=0,
        seeds=seeds,
        device=torch.device("cpu"),
        load_shared=lambda: load_shared(
            config, size=20, form=(1, 8), class_names=(), seeds=seeds, cache_dir=tmp_path
        ),
    )
    untrained = to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=0, seeds=seeds)
    )
    assert not np.array_equal(run.start_vector(), untrained)
    assert np.array_equal(run.start_vector(), run.start_vector())
