"""The trainer under attack: what its answers give away of one image, against what it claims.

The adversary of the definition: it knows all other images, the weights and the canary, and sees
the round's update. It guesses whether the canary was there, over many independent rounds with
fresh noise from the cryptographic source. Under unit group the canary is a person with sixteen
images, and the fault to be found is to clip each of them.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from attacks.epsilon.independent import epsilon_from_counts
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector
from phoenix_secure.training.private import PrivateTrainer

DELTA, STEPS = 1e-5, 2
# Claims and rounds of each kind: so many that a perfect guesser proves the claim false. Against a
# trainer that breaks its claim there are more, since a guess or two goes wrong.
SLOW_CLAIMS = [pytest.param(epsilon, 400, marks=pytest.mark.slow) for epsilon in (1.0, 4.0)]
KEPT = [pytest.param(2.5, 50), *SLOW_CLAIMS]
BROKEN = [pytest.param(2.5, 80), *SLOW_CLAIMS]
SETTINGS = [
    "model.block_channels=[8]",
    "model.attention=[false]",
    "model.mid_attention=false",
    "training.batch_size=1",
    f"training.local_steps={STEPS}",
    "training.optimizer=sgd",
    "training.learning_rate=1",
    "training.lr_decay=none",
    "training.warmup_steps=0",
    "privacy.noise_multiplier=1",
    "privacy.sampling_rate=1",
    # Small beside the weights, so that the canary's gradient stays what it was; many draws, so
    # that it is close to its mean, which the adversary knows.
    "privacy.clip_norm=0.0001",
]
RECORD = ["privacy.unit=record", "privacy.noise_draws=16"]
RECORD += ["privacy.physical_batch=2"]  # no chunk is filled up to more than the two images
PERSON = ["privacy.unit=group", "privacy.images_per_group=16", "privacy.noise_draws=1"]
PERSON += ["privacy.physical_batch=17"]
PERSON += ["data.name=npz", "data.path=x.npz", "data.group=array:patient"]


def noise_for(epsilon: float) -> float:
    return noise_multiplier_for(epsilon=epsilon, delta=DELTA, sampling_rate=1.0, steps=STEPS)


class Game:
    """Rounds with and without the canary, as scores of the adversary.

    copies    images of the canary: one, or a person's sixteen
    """

    def __init__(self, digits: SiteImages, *, unit: list[str], copies: int) -> None:
        self.config: RunConfig = load_config(None, [*SETTINGS, *unit])
        self.weights = to_vector(
            build_unet(
                self.config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0)
            )
        )
        shown = np.repeat([0, 1], [copies, 1])
        both = SiteImages(
            images=digits.images[shown], labels=digits.labels[shown], groups=shown.astype(np.int64)
        )
        self.with_it, self.without = both, both.take(np.array([copies]))
        alone = both.take(np.arange(copies))
        quiet = self._trainer(1e-6)
        mean = np.mean([self._update(quiet, alone) for _ in range(8)], axis=0)
        self.direction = mean / np.linalg.norm(mean)
        self.others = np.mean(
            [self._update(quiet, self.without) @ self.direction for _ in range(8)]
        )

    def _trainer(self, noise: float) -> PrivateTrainer:
        return PrivateTrainer(
            self.config, num_classes=10, device=torch.device("cpu"), noise_multiplier=noise
        )

    def _update(self, trainer: PrivateTrainer, site: SiteImages) -> np.ndarray:
        update = trainer.train(self.weights, site, round_number=1, seeds=SeedTree(0))
        return update.delta.astype(np.float64) / self.config.privacy.clip_norm

    def epsilon_lower(self, noise: float, *, rounds: int, sigmas: float = 1.5) -> float:
        """What so many rounds of each kind prove at 95 %, at one threshold fixed beforehand: so
        many standard deviations of the noise above the others."""
        trainer = self._trainer(noise)
        out, inside = (
            np.array([self._update(trainer, site) @ self.direction for _ in range(rounds)])
            for site in (self.without, self.with_it)
        )
        # Where false alarms are rare epsilon shows; no score decides it, only the noise.
        sigma = noise * np.sqrt(STEPS)
        threshold = self.others + max(STEPS / 2, sigmas * sigma)
        return epsilon_from_counts(
            false_positives=int((out >= threshold).sum()),
            num_out=rounds,
            false_negatives=int((inside < threshold).sum()),
            num_in=rounds,
            delta=DELTA,
        )


@pytest.fixture(scope="module")
def game(digits: SiteImages) -> Game:
    return Game(digits, unit=RECORD, copies=1)


@pytest.fixture(scope="module")
def person_game(digits: SiteImages) -> Game:
    return Game(digits, unit=PERSON, copies=16)


@functools.cache
def claimed(noise: float) -> float:
    event = PoissonSampledGaussian(sampling_rate=1.0, noise_multiplier=noise, steps=STEPS)
    return epsilon_of([event], delta=DELTA).value


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "rounds"), KEPT)
def test_no_bound_from_below_exceeds_what_the_accountant_claims(
    game: Game, epsilon: float, rounds: int
) -> None:
    noise = noise_for(epsilon)
    assert game.epsilon_lower(noise, rounds=rounds) <= claimed(noise) <= epsilon


@pytest.mark.slow
def test_the_bound_is_not_empty(game: Game) -> None:
    """At epsilon 8 the attack proves some of it: a bound of zero would pass the test above."""
    assert game.epsilon_lower(noise_for(8.0), rounds=400) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "rounds"), BROKEN)
def test_a_trainer_with_a_tenth_of_the_noise_is_found_out(
    game: Game, epsilon: float, rounds: int
) -> None:
    assert game.epsilon_lower(noise_for(epsilon) / 10, rounds=rounds) > epsilon


@pytest.mark.slow
def test_no_bound_of_a_person_exceeds_what_the_accountant_claims(person_game: Game) -> None:
    noise = noise_for(2.5)
    assert person_game.epsilon_lower(noise, rounds=50) <= claimed(noise) <= 2.5


@pytest.mark.slow
def test_clipping_each_image_of_a_person_is_found_out(
    person_game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PersonMeans, "take", lambda self, samples, num_images: (samples, num_images)
    )
    # What she moves is far above the noise: only false alarms hide it, and are made rare.
    assert person_game.epsilon_lower(noise_for(2.5), rounds=80, sigmas=3) > 2.5
