"""One site's round: repeatable, learns, pulls towards the global model, stops when asked."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import TrainingError
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer, LocalUpdate
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.steps import Cancelled

SETTINGS = ["model.block_channels=[8,16]", "model.attention=[false,true]"]
SETTINGS += ["training.batch_size=16", "training.local_steps=3", "training.warmup_steps=0"]


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def initial(config: RunConfig) -> np.ndarray:
    return to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    )


def train(
    config: RunConfig, site: SiteImages, *, round_number: int = 1, seed: int = 0
) -> LocalUpdate:
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
    return trainer.train(
        initial(config), site, round_number=round_number, seeds=SeedTree(seed).child("site")
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["training.optimizer=sgd", "training.grad_clip=null"], marks=pytest.mark.slow),
        ["model.class_conditional=true"],
        pytest.param(
            ["model.space_to_depth=2", "diffusion.prediction=epsilon", "diffusion.min_snr_gamma=5"],
            marks=pytest.mark.slow,
        ),
        ["diffusion.prediction=edm", "training.horizontal_flip=true"],
        pytest.param(["training.channels_last=true"], marks=pytest.mark.slow),
        ["training.autocast=bfloat16"],
    ],
)
def test_same_seed_gives_the_same_update_bit_for_bit(
    overrides: list[str], digits: SiteImages
) -> None:
    config = configured(*overrides)
    one, two, other = (train(config, digits, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.delta, two.delta)
    assert not np.array_equal(one.delta, other.delta)
    assert one.loss == two.loss
    assert np.abs(one.delta).max() > 0


def test_used_trainer_remembers_nothing(digits: SiteImages) -> None:
    config = configured()
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))

    def again(seed: int) -> np.ndarray:
        return trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(seed)).delta

    first = again(1)
    again(2)
    np.testing.assert_array_equal(again(1), first)


def test_two_threads_do_not_disturb_each_other(digits: SiteImages) -> None:
    config = configured()
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
    results: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        update = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(seed))
        results[seed] = update.delta

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, delta in results.items():
        alone = trainer.train(initial(config), digits, round_number=1, seeds=SeedTree(seed)).delta
        np.testing.assert_array_equal(delta, alone)


@pytest.mark.long
def test_training_lowers_the_loss_on_real_digits(digits: SiteImages) -> None:
    config = configured("training.local_steps=60", "training.learning_rate=0.005")
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
    start = initial(config)
    update = trainer.train(start, digits, round_number=1, seeds=SeedTree(0))
    probe = configured("training.local_steps=4", "training.learning_rate=1e-9")
    after = LocalTrainer(probe, num_classes=10, device=torch.device("cpu"))
    losses = [
        after.train(vector, digits, round_number=1, seeds=SeedTree(9)).loss
        for vector in (start, start + update.delta)
    ]
    assert losses[1] < 0.6 * losses[0]


@pytest.mark.long
def test_proximal_term_keeps_the_site_nearer(digits: SiteImages) -> None:
    norms = [
        np.linalg.norm(
            train(configured(f"training.proximal_mu={mu}", "training.local_steps=10"), digits).delta
        )
        for mu in (0, 0.1, 10)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_proximal_gradient_is_the_papers(digits: SiteImages) -> None:
    """With plain SGD, step k of FedProx is w - lr (g + mu (w - w0)); checked on two steps."""
    base = ["training.optimizer=sgd", "training.grad_clip=null", "training.lr_decay=none"]
    base += ["training.learning_rate=0.1"]
    one = train(configured(*base, "training.local_steps=1"), digits).delta
    plain = train(configured(*base, "training.local_steps=2"), digits).delta
    prox = train(configured(*base, "training.local_steps=2", "training.proximal_mu=0.5"), digits)
    np.testing.assert_allclose(prox.delta, plain - 0.1 * 0.5 * one, atol=2e-6)


def test_flag_stops_between_two_steps(digits: SiteImages) -> None:
    config = configured("training.local_steps=50")
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
    seen: list[int] = []
    with pytest.raises(Cancelled):
        trainer.train(
            initial(config),
            digits,
            round_number=1,
            seeds=SeedTree(0),
            cancelled=lambda: len(seen) >= 2,
            progress=seen.append,
        )
    assert seen == [16, 16]


def test_divergence_is_an_error_that_names_the_settings(digits: SiteImages) -> None:
    config = configured(
        "training.optimizer=sgd", "training.grad_clip=null", "training.learning_rate=10"
    )
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"learning_rate": 1e30})}
    )
    with pytest.raises(TrainingError, match=r"training\.learning_rate"):
        train(config, digits)


def test_later_round_uses_the_decayed_rate(digits: SiteImages) -> None:
    config = configured("federation.rounds=10")
    first = np.linalg.norm(train(config, digits, round_number=1).delta)
    last = np.linalg.norm(train(config, digits, round_number=10).delta)
    assert last < 0.2 * first


def test_site_without_images_is_refused() -> None:
    empty = SiteImages(images=np.zeros((0, 1, 8, 8), np.uint8), labels=None)
    with pytest.raises(TrainingError, match="no image to train on"):
        train(configured(), empty)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_draws_the_same_noise_as_the_cpu(digits: SiteImages) -> None:
    config = configured()
    losses = [
        LocalTrainer(config, num_classes=10, device=torch.device(name))
        .train(initial(config), digits, round_number=1, seeds=SeedTree(0))
        .loss
        for name in ("cpu", "cuda")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_drift_is_added_after_each_step_times_its_rate(digits: SiteImages) -> None:
    config = configured("training.local_steps=1", "training.optimizer=sgd")
    start = initial(config)
    drift = np.random.default_rng(0).normal(size=start.size).astype(np.float32)
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))

    def update(drift: np.ndarray | None) -> np.ndarray:
        seeds = SeedTree(0)
        return trainer.train(start, digits, round_number=1, seeds=seeds, drift=drift).delta

    rate = config.training.learning_rate
    assert np.allclose(update(drift) - update(None), rate * drift, atol=1e-6)
