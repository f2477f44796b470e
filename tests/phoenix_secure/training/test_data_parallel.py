"""Steps on several devices are the steps of one: two processes on the CPU, joined by gloo."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.data_parallel import _CURRENT, DataParallel, share_devices
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.gradients import GradientTrainer
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer
from phoenix_secure.training.steps import Cancelled

CPU = torch.device("cpu")
SETTINGS = [
    *("model.block_channels=[8]", "model.attention=[false]", "model.mid_attention=false"),
    *("training.batch_size=7", "training.local_steps=3", "training.warmup_steps=0"),
]
PRIVATE = [
    *("privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=0.4"),
    *("privacy.physical_batch=4", "privacy.clip_norm=0.3", "privacy.noise_source=seeded"),
]
STEPS = ["federation.exchange=gradients", "federation.server_optimizer=fedadam"]
STEPS += ["training.local_steps=1", "privacy.trust=sum"]


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No process outlives its test."""
    yield
    for group in list(_CURRENT):
        group.close()


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def initial(config: RunConfig) -> np.ndarray:
    return to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    )


def plain(config: RunConfig, site: SiteImages) -> np.ndarray:
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    return trainer.train(initial(config), site, round_number=1, seeds=SeedTree(0)).delta


def private(config: RunConfig, site: SiteImages) -> np.ndarray:
    trainer = PrivateTrainer(config, num_classes=10, device=CPU, noise_multiplier=1.0)
    first = trainer.train(initial(config), site, round_number=1, seeds=SeedTree(0))
    again = trainer.train(initial(config), site, round_number=1, seeds=SeedTree(0))
    np.testing.assert_array_equal(first.delta, again.delta)
    assert np.isfinite(first.loss)
    return first.delta


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        ["training.optimizer=sgd"],
        ["model.class_conditional=true", "training.channels_last=true", "training.batch_size=2"],
        pytest.param(
            ["diffusion.prediction=edm", "model.space_to_depth=2"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_plain_round_is_that_of_one_device(overrides: list[str], digits: SiteImages) -> None:
    """SGD: so that a gradient's size counts, which AdamW would hide."""
    config = configured("training.optimizer=sgd", *overrides)
    expected = plain(config, digits)
    found = plain(configured("training.optimizer=sgd", *overrides, "training.devices=2"), digits)

    assert np.linalg.norm(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-7)


@pytest.mark.long
def test_one_gradient_of_a_batch_is_that_of_one_device(digits: SiteImages) -> None:
    overrides = [*STEPS[:2], "training.local_steps=1", "training.grad_clip=null"]
    found = []
    for devices in (1, 3):
        config = configured(*overrides, f"training.devices={devices}")
        trainer = GradientTrainer(config, num_classes=10, device=CPU)
        update = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0))
        found.append((update.delta, update.loss))

    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4, atol=1e-6)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_a_private_round_is_that_of_one_device(kind: str, digits: SiteImages) -> None:
    """The same images, draws and noise: several chunks a step, and sums in float64."""
    overrides = [*PRIVATE, f"privacy.gradients={kind}", "training.optimizer=sgd"]
    expected = private(configured(*overrides), digits)
    found = private(configured(*overrides, "training.devices=2"), digits)

    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.long
def test_a_step_in_whole_numbers_is_exactly_that_of_one_device(digits: SiteImages) -> None:
    grid = IntegerGrid(steps=1 << 18, limit=1 << 40)
    words = []
    for devices in (1, 2):
        config = configured(*PRIVATE, *STEPS, f"training.devices={devices}")
        summer = GradientSummer(config, num_classes=10, device=CPU, grid=grid)
        sums = summer.sum(initial(config), digits, round_number=1, seeds=SeedTree(0))
        words.append(sums.words)

    assert np.abs(words[0]).max() > 0
    np.testing.assert_array_equal(words[0], words[1])


@pytest.mark.long
def test_what_a_given_up_step_had_summed_is_forgotten(digits: SiteImages) -> None:
    """A step that ends between two chunks leaves sums without noise in other processes."""
    grid = IntegerGrid(steps=1 << 18, limit=1 << 40)
    config = configured(*PRIVATE, *STEPS, "training.devices=2")
    summer = GradientSummer(config, num_classes=10, device=CPU, grid=grid)
    expected = summer.sum(initial(config), digits, round_number=1, seeds=SeedTree(0)).words
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        summer.sum(
            initial(config),
            digits,
            round_number=1,
            seeds=SeedTree(0),
            cancelled=lambda: next(answers),
        )

    found = summer.sum(initial(config), digits, round_number=1, seeds=SeedTree(0)).words
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_a_process_that_dies_is_an_error_and_the_next_round_starts_anew(
    digits: SiteImages,
) -> None:
    config = configured("training.optimizer=sgd", "training.devices=2")
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    before = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0)).delta
    (group,) = _CURRENT
    os.kill(group._processes[0].pid, signal.SIGKILL)
    group._processes[0].wait()

    with pytest.raises(TrainingError, match=r"process of training\.devices"):
        trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0))
    after = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0)).delta
    np.testing.assert_array_equal(before, after)


@pytest.mark.long
def test_nothing_is_left_behind(digits: SiteImages) -> None:
    config = configured("training.devices=2")
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0))
    (group,) = _CURRENT
    (process,), folder = group._processes, group._log.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    group.close()

    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.long
def test_a_worker_that_cannot_start_says_why(digits: SiteImages) -> None:
    config = configured("training.devices=2", "model.class_conditional=true")
    with pytest.raises(TrainingError, match=r"training\.devices ended: \S"):
        DataParallel(config, num_classes=-2, shape=digits.form, device=CPU)


def test_more_devices_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = [torch.device("cuda", index) for index in (1, 0)]
    assert share_devices(torch.device("cuda", 1), 2) == cuda
    assert share_devices(CPU, 3) == [CPU] * 3
    with pytest.raises(ConfigError, match=r"training\.devices = 3, but 2 CUDA"):
        share_devices(torch.device("cuda", 0), 3)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["training.compile=true"], "training.compile"),
        (["training.autocast=float16"], "training.autocast"),
        (["federation.workers=2"], "federation.workers=1"),
        ([*PRIVATE, "privacy.unit=group"], "privacy.unit=record"),
    ],
)
def test_what_takes_one_device_is_refused_by_name(overrides: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        configured("training.devices=2", *overrides)
    assert "devices" not in configured().model_dump()["training"]


@pytest.mark.gpu
def test_a_private_round_on_every_gpu_is_that_of_one(digits: SiteImages) -> None:
    """NCCL; not run where there are fewer than two CUDA devices."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    found = []
    for devices in (1, 2):
        config = configured(*PRIVATE, f"training.devices={devices}")
        trainer = PrivateTrainer(
            config, num_classes=10, device=torch.device("cuda", 0), noise_multiplier=1.0
        )
        update = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(0))
        found.append(update.delta)

    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)
