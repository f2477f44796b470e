"""A private round: it learns, its noise has the stated size, and what would void it is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.privacy.randomness import SeededRandomness
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer
from phoenix_secure.training.steps import Cancelled

SETTINGS = ["model.block_channels=[8,16]", "model.attention=[false,true]"]
SETTINGS += ["model.mid_attention=false"]
SMALL = ["model.block_channels=[8]", "model.attention=[false]"]
SETTINGS += ["training.batch_size=16", "training.local_steps=3", "training.warmup_steps=0"]
SETTINGS += ["privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=0.25"]
SGD = ["training.optimizer=sgd", "training.lr_decay=none", "training.learning_rate=1"]


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def initial(config: RunConfig) -> np.ndarray:
    return to_vector(
        build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    )


def trainer_of(config: RunConfig, *, noise_multiplier: float = 1.0) -> PrivateTrainer:
    return PrivateTrainer(
        config, num_classes=10, device=torch.device("cpu"), noise_multiplier=noise_multiplier
    )


def train(
    config: RunConfig, site: SiteImages, *, seed: int = 0, noise_multiplier: float = 1.0
) -> LocalUpdate:
    return trainer_of(config, noise_multiplier=noise_multiplier).train(
        initial(config), site, round_number=1, seeds=SeedTree(seed).child("site")
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["privacy.gradients=vmap", "privacy.noise_draws=2"], marks=pytest.mark.slow),
        ["model.class_conditional=true", "privacy.noise_draws=2", "privacy.augmentations=2"],
        pytest.param(
            ["model.space_to_depth=2", "diffusion.prediction=edm", "training.horizontal_flip=true"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["training.channels_last=true", "privacy.physical_batch=7"], marks=pytest.mark.slow
        ),
    ],
)
def test_seeded_round_is_repeatable_and_secure_round_is_not(
    overrides: list[str], digits: SiteImages
) -> None:
    overrides = ["training.local_steps=2", *overrides]
    seeded = configured("privacy.noise_source=seeded", *overrides)
    one, two, other = (train(seeded, digits, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.delta, two.delta)
    assert not np.array_equal(one.delta, other.delta)
    secure = configured(*overrides)
    assert not np.array_equal(train(secure, digits).delta, train(secure, digits).delta)


def test_secure_round_leaves_the_global_generators_alone(digits: SiteImages) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    train(configured(), digits)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_round_without_any_image_is_noise_of_the_stated_size(digits: SiteImages) -> None:
    """SGD, rate 1, one step: the change is noise_multiplier * clip_norm / batch_size a coordinate.

    The sampling rate is so low that no image is drawn.
    """
    config = configured(
        *SGD, "training.local_steps=1", "privacy.sampling_rate=1e-12", "privacy.clip_norm=0.5"
    )
    update = train(config, digits, noise_multiplier=3.0)
    expected = 3.0 * 0.5 / 16
    assert update.delta.std() == pytest.approx(expected, rel=0.05)
    assert abs(update.delta.mean()) < 6 * expected / math.sqrt(len(update.delta))
    assert update.num_steps == 1
    assert math.isnan(update.loss)


@pytest.mark.long
def test_a_step_without_images_has_the_noise_and_the_event_of_any_other(
    digits: SiteImages,
) -> None:
    """Two-sample Kolmogorov-Smirnov test; the images' own part is a thousandth of the noise."""
    one_step = [*SGD, "training.local_steps=1", "privacy.clip_norm=0.5"]
    updates = [
        train(configured(*one_step, f"privacy.sampling_rate={q}"), digits, noise_multiplier=1e5)
        for q in (1e-12, 1)
    ]
    assert [update.num_steps for update in updates] == [1, 1]
    empty, full = (update.delta / (1e5 * 0.5 / 16) for update in updates)
    assert ks_2samp(empty, full).pvalue > 1e-4
    assert ks_2samp(empty, 1.1 * full).pvalue < 1e-4  # a tenth more would be seen
    # The event of a release follows from the settings: no sample, empty or not, changes it.
    plan = plan_privacy(configured("privacy.sampling_rate=0.001"), terms=None)
    assert plan is not None
    assert plan.event.steps == train(configured("privacy.sampling_rate=0.001"), digits).num_steps


@pytest.mark.parametrize("physical_batch", [pytest.param(1, marks=pytest.mark.slow), 7, 32])
def test_no_sample_is_capped(digits: SiteImages, physical_batch: int) -> None:
    """Rate 1 on 40 copies of an image: all of them count, whatever the batch sizes say."""
    many = SiteImages(images=np.repeat(digits.images[:1], 40, axis=0), labels=None)
    config = configured(
        *SGD,
        "training.batch_size=4",
        "training.local_steps=1",
        "privacy.sampling_rate=1",
        "privacy.clip_norm=1e-3",
        f"privacy.physical_batch={physical_batch}",
    )
    seen: list[int] = []
    update = trainer_of(config, noise_multiplier=1e-9).train(
        initial(config), many, round_number=1, seeds=SeedTree(0), progress=seen.append
    )
    assert seen == [40]
    # Each gradient is of length C; they differ by their timesteps, and the sum is shorter: about
    # 0.4 of all together, where a cap at the batch size of 4 would leave 4 at the very most.
    length = np.linalg.norm(update.delta) * 4 / 1e-3
    assert 4 < length <= 40 * 1.01


def test_one_image_moves_a_step_by_at_most_the_clip_norm(digits: SiteImages) -> None:
    """With rate 1 and (nearly) no noise a step is minus the clipped sum over the divisor."""
    config = configured(
        *SGD, "training.local_steps=1", "privacy.sampling_rate=1", "privacy.clip_norm=1e-3"
    )
    one = SiteImages(images=digits.images[:1], labels=None)
    for draws in (1, 4):
        wide = config.model_copy(
            update={"privacy": config.privacy.model_copy(update={"noise_draws": draws})}
        )
        moved = train(wide, one, noise_multiplier=1e-9).delta
        assert np.linalg.norm(moved) * 16 == pytest.approx(1e-3, rel=2e-3)


@pytest.mark.long
def test_result_does_not_depend_on_the_physical_batch(digits: SiteImages) -> None:
    """Same draws for a batch in one piece: pieces change the order of draws, so use one image."""
    one = SiteImages(images=digits.images[:1], labels=None)
    deltas = [
        train(
            configured(
                "privacy.noise_source=seeded",
                "privacy.sampling_rate=1",
                f"privacy.physical_batch={b}",
            ),
            one,
        ).delta
        for b in (16, 96)
    ]
    np.testing.assert_array_equal(deltas[0], deltas[1])


@pytest.mark.long
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_batches_are_never_capped(digits: SiteImages, rate: float) -> None:
    """A batch may be many times ``batch_size`` and ``physical_batch``: all of it counts."""
    config = configured(
        f"privacy.sampling_rate={rate}",
        *("training.batch_size=1", "training.local_steps=2", "privacy.physical_batch=7"),
    )
    sizes: list[int] = []
    trainer_of(config).train(
        initial(config), digits, round_number=1, seeds=SeedTree(0), progress=sizes.append
    )
    assert max(sizes) > 16
    assert rate < 1 or sizes == [64] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_before_training(
    digits: SiteImages, value: float
) -> None:
    config = configured()
    weights = initial(config)
    weights[7] = value
    with pytest.raises(ValueError, match="finite"):
        trainer_of(config).train(weights, digits, round_number=1, seeds=SeedTree(0))


def test_weights_far_beyond_any_training_are_refused(digits: SiteImages) -> None:
    config = configured()
    weights = initial(config)
    weights[7] = -2e4
    seen: list[int] = []
    with pytest.raises(TrainingError, match="weights beyond 10000"):
        trainer_of(config).train(
            weights, digits, round_number=1, seeds=SeedTree(0), progress=seen.append
        )
    assert not seen


@pytest.mark.long
def test_private_training_lowers_the_loss_on_real_digits(digits: SiteImages) -> None:
    config = configured(
        *SMALL,
        *("training.local_steps=25", "privacy.sampling_rate=0.5", "training.learning_rate=0.005"),
    )
    start = initial(config)
    update = train(config, digits, noise_multiplier=0.02)
    probe = configured(
        *SMALL,
        *("training.learning_rate=1e-9", "privacy.sampling_rate=1", "privacy.noise_draws=4"),
    )
    losses = [
        trainer_of(probe).train(vector, digits, round_number=1, seeds=SeedTree(9)).loss
        for vector in (start, start + update.delta)
    ]
    assert losses[1] < 0.8 * losses[0]


def test_fedprox_pull_is_the_papers(digits: SiteImages) -> None:
    """Plain SGD: with pull, step two starts at w1 and adds -lr mu (w1 - w0)."""
    base = ["privacy.noise_source=seeded", *SGD, "privacy.sampling_rate=1e-12"]
    one = train(configured(*base, "training.local_steps=1"), digits).delta
    two = train(configured(*base, "training.local_steps=2"), digits).delta
    pulled = train(configured(*base, "training.local_steps=2", "training.proximal_mu=0.5"), digits)
    np.testing.assert_allclose(pulled.delta, two - 0.5 * one, atol=1e-6)


def test_flag_stops_between_two_steps(digits: SiteImages) -> None:
    config = configured("training.local_steps=50")
    seen: list[int] = []
    with pytest.raises(Cancelled):
        trainer_of(config).train(
            initial(config),
            digits,
            round_number=1,
            seeds=SeedTree(0),
            cancelled=lambda: len(seen) >= 2,
            progress=seen.append,
        )
    assert len(seen) == 2


def test_divergence_names_the_setting(digits: SiteImages) -> None:
    config = configured("training.optimizer=sgd")
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"learning_rate": 1e38})}
    )
    with pytest.raises(TrainingError, match=r"training\.learning_rate"):
        train(config, digits, noise_multiplier=1e3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["training.local_steps=null", "training.local_epochs=1"], "training.local_steps"),
        (["training.autocast=bfloat16"], "training.autocast"),
        (["training.compile=true"], "training.compile"),
        (["privacy.unit=site"], "privacy.unit"),
    ],
)
def test_settings_that_void_the_guarantee_are_refused(override: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_of(configured(*override))


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_multiplier_must_be_a_positive_number(noise: float) -> None:
    with pytest.raises(ValueError, match="noise_multiplier"):
        trainer_of(configured(), noise_multiplier=noise)


class _Prefix:
    """Draws of which a smaller batch takes the first: an image draws alike in any company."""

    name = "prefix"

    def __init__(self) -> None:
        source = SeededRandomness(5)
        self._normals, self._words = source.normal(200_000), source.integers(20_000, below=1 << 20)

    def normal(self, num: int) -> torch.Tensor:
        return self._normals[:num].clone()

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        return self._words[:num] % below

    def included(self, num: int, *, probability: float) -> np.ndarray:
        return np.flatnonzero(self._words[:num].numpy() < probability * (1 << 20))


@pytest.mark.parametrize(
    "overrides",
    [
        ["diffusion.prediction=v", "diffusion.min_snr_gamma=5"],
        ["diffusion.prediction=epsilon", "training.horizontal_flip=true"],
        ["diffusion.prediction=edm", "privacy.noise_draws=3"],
        ["model.class_conditional=true", "model.space_to_depth=2", "training.channels_last=true"],
    ],
)
def test_what_enters_the_network_has_the_same_bits_in_any_company(
    overrides: list[str], digits: SiteImages
) -> None:
    """Scaling, noising, weights and labels too: kernels for the end of a vector may differ."""
    trainer, index = trainer_of(configured(*overrides)), np.arange(37)
    together = trainer._rows(digits, index, randomness=_Prefix())
    for num in (1, 2, 3, 7, 16, 31, 36):
        fewer = trainer._rows(digits, index[:num], randomness=_Prefix())
        for name in ("inputs", "times", "target", "weight", "labels"):
            some, every = getattr(fewer, name), getattr(together, name)
            assert (some is None) == (every is None)
            assert some is None or torch.equal(some, every[:num])


@pytest.mark.parametrize(
    "overrides",
    [
        ["privacy.noise_draws=2", "privacy.augmentations=2", "model.class_conditional=true"],
        pytest.param(
            ["training.channels_last=true", "diffusion.prediction=edm"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["training.optimizer=adamw", "training.learning_rate=1e-3"], marks=pytest.mark.slow
        ),
    ],
)
def test_both_ways_to_gradients_train_the_same_model(
    overrides: list[str], digits: SiteImages
) -> None:
    """Equal draws, equal noise: a round differs by what float32 rounds, far below any seed's."""
    found = [
        train(
            configured(
                *SGD, "privacy.noise_source=seeded", f"privacy.gradients={kind}", *overrides
            ),
            digits,
        )
        for kind in ("layers", "vmap")
    ]
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)
    error = np.linalg.norm(found[0].delta - found[1].delta)
    assert error < 1e-4 * np.linalg.norm(found[0].delta)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("gradients", ["layers", "vmap"])
def test_cuda_takes_the_draws_of_the_cpu(digits: SiteImages, gradients: str) -> None:
    """Batches, timesteps, noises of images and of steps: the same cipher, moved.

    Marked gpu: the point is a device whose own generator has no part in it. One image at a time, so
    that both devices cut the same chunks.
    """
    config = configured(
        *("privacy.noise_source=seeded", f"privacy.gradients={gradients}", *SGD),
        *("training.local_steps=2", "privacy.physical_batch=1"),
    )
    before = torch.cuda.get_rng_state()
    updates = [
        PrivateTrainer(
            config, num_classes=10, device=torch.device(name), noise_multiplier=1.0
        ).train(initial(config), digits, round_number=1, seeds=SeedTree(0))
        for name in ("cpu", "cuda")
    ]
    assert torch.equal(torch.cuda.get_rng_state(), before)
    # The noise is the same; the images' own part differs by what float32 rounds.
    np.testing.assert_allclose(updates[0].delta, updates[1].delta, atol=1e-3)
    assert updates[0].delta.std() > 0.05
