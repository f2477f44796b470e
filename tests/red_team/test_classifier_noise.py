"""What the noised sums of a classifier's step prove about epsilon.

The adversary of the definition, with the server and c sites: he knows all images but one and all
other sites' words, and looks at a step's sum along the direction in which that image moves it. The
audit's estimator turns his errors into a bound; sites that draw a tenth of the noise that their
ledgers say are found by it.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from noise_games import honest_deviation, proven_epsilon, weakened
from phoenix_secure.config_file import load_config
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.secagg.payload import encode_sums
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.release.scattering import Scattering
from phoenix_secure.rng import SeedTree

CLAIM, DELTA = 1.0, 1e-5
GAMES = 120
NUM_CLASSES = 3
THRESHOLD = 2.2  # standard deviations of the noise above its mean
SETTINGS = [
    *("model.network=classifier", "federation.exchange=gradients", "federation.rounds=1"),
    *("federation.server_optimizer=fedavgm", "training.optimizer=sgd", "training.local_steps=1"),
    *("training.grad_clip=null", "training.batch_size=20", "ema.decay=0"),
    *("partition.num_sites=6", "secure_aggregation.word_bits=32", "secure_aggregation.dropout=0.2"),
    *("privacy.unit=record", "privacy.trust=sum", f"privacy.epsilon={CLAIM}"),
    *("privacy.sampling_rate=1", "privacy.clip_norm=0.3"),
]


class Game:
    """One victim of 20 images, one of which is there or is not."""

    def __init__(self) -> None:
        self.config = load_config(None, SETTINGS)
        size = Scattering(channels=1, image_size=8).size * NUM_CLASSES
        self.terms = choose_terms(self.config, num_parameters=size)
        assert self.terms.grid is not None
        summer = ClassifierSummer(self.config, num_classes=NUM_CLASSES, grid=self.terms.grid)
        digits = load_digits()
        own = np.flatnonzero(digits.labels < NUM_CLASSES)[:20]
        site = SiteImages(images=digits.images[own], labels=digits.labels[own])
        zeros = np.zeros(size, np.float32)
        self.sums = [
            summer.sum(zeros, images, round_number=1, seeds=SeedTree(0)).words
            for images in (site.take(np.arange(19)), site)
        ]
        moved = self.sums[1] - self.sums[0]
        self.length = float(np.linalg.norm(moved))
        self.direction = moved / self.length

    def seen(self, *, is_there: bool, terms: SecureTerms) -> float:
        """How far the sum of the fewest survivors lies in that direction."""
        assert terms.noise is not None
        entered = encode_sums(IntegerSums(words=self.sums[is_there]), terms=terms)
        assert entered.noise is not None
        found = (entered.words - self.sums[0] + entered.noise).astype(np.float64)
        for _ in range(terms.threshold - terms.num_colluders - 1):
            found += draw_discrete_gaussian(
                found.size, variance=int(terms.noise.share_variance), entropy=os.urandom
            )
        return float(found @ self.direction)

    def bound(self, *, noise: float) -> float:
        """A bound on epsilon, false with a probability of 5 %, at ``noise`` times the noise."""
        terms = weakened(self.terms, noise=noise)
        least = THRESHOLD * honest_deviation(terms)
        return proven_epsilon(
            lambda is_there: self.seen(is_there=is_there, terms=terms) > least,
            with_it=GAMES,
            without=GAMES,
            delta=DELTA,
        )


@pytest.fixture(scope="module")
def game() -> Game:
    return Game()


def test_one_image_moves_the_sum_by_nearly_the_sensitivity(game: Game) -> None:
    assert game.terms.grid is not None
    assert 0.9 * game.terms.grid.steps < game.length <= game.terms.grid.steps


def test_a_plan_s_sums_prove_no_more_than_it_claims(game: Game) -> None:
    plan = plan_privacy(game.config, terms=game.terms)
    assert plan is not None
    assert 0.97 < plan.planned.value <= CLAIM
    assert game.bound(noise=1.0) <= CLAIM


def test_a_tenth_of_the_noise_is_found(game: Game) -> None:
    assert game.bound(noise=0.1) > CLAIM
