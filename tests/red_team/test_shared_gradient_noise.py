"""What released sums of gradients prove about epsilon: against colluders, and against a weak plan.

The adversary of the definition. He works with the server and with c sites; he knows all pictures
but one, chooses the weights, and sees the noised sum of the fewest survivors. The colluders
subtract their own words. With weights of zero every gradient but that of the output's bias is
zero, and of that one a white picture's is one clip norm long: the worst case of the analysis. He
says "the picture is there" beyond a threshold, and the audit's own estimator turns his errors into
a bound.

A bound from below is no use unless it can be high: the same attack on sites that draw a tenth of
the noise that their ledgers say must prove more than they claim.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from noise_games import honest_deviation, proven_epsilon, weakened
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.secagg.payload import encode_sums
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.parameters import to_vector

CLAIM, DELTA = 1.0, 1e-5
WITH_IT, WITHOUT = 80, 200
THRESHOLD = 2.2  # standard deviations of the noise below its mean
SETTINGS = [
    *("model.block_channels=[4]", "model.attention=[false]", "model.mid_attention=false"),
    *("model.layers_per_block=1", "model.norm_groups=2", "diffusion.prediction=v"),
    *("federation.exchange=gradients", "federation.server_optimizer=fedadam"),
    *("federation.rounds=1", "partition.num_sites=6", "secure_aggregation.word_bits=32"),
    *("training.batch_size=1", "training.local_steps=1", "secure_aggregation.dropout=0.2"),
    *("privacy.unit=record", "privacy.trust=sum", f"privacy.epsilon={CLAIM}"),
    *("privacy.sampling_rate=0.9", "privacy.clip_norm=1e-4", "privacy.noise_draws=4"),
    "privacy.physical_batch=1",
]


class Game:
    """One victim, whose folder holds a white picture or none, among honest and colluding sites."""

    def __init__(self) -> None:
        self.config = load_config(None, SETTINGS)
        network = build_unet(
            self.config.model, image_size=8, channels=1, num_classes=0, seeds=SeedTree(0)
        )
        self.weights = np.zeros_like(to_vector(network))
        names = [name for name, _ in network.named_parameters()]
        sizes = [parameter.numel() for parameter in network.parameters()]
        self.bias = sum(sizes[: names.index("conv_out.bias")])
        self.terms = choose_terms(self.config, num_parameters=self.weights.size)
        assert self.terms.grid is not None
        self.summer = GradientSummer(
            self.config, num_classes=0, device=torch.device("cpu"), grid=self.terms.grid
        )
        shape = (1, 1, 8, 8)
        self.white = SiteImages(images=np.full(shape, 255, np.uint8), labels=None)
        self.none = SiteImages(images=np.empty((0, 1, 8, 8), np.uint8), labels=None)

    def released(self, site: SiteImages, *, terms: SecureTerms) -> int:
        """The bias' word in a sum of the fewest survivors, without what the colluders entered."""
        assert terms.noise is not None
        found = self.summer.sum(self.weights, site, round_number=1, seeds=SeedTree(0)).words
        entered = encode_sums(IntegerSums(words=found), terms=terms)
        assert entered.noise is not None
        # The other honest sites' pictures are known and subtracted: their noise is left.
        others = draw_discrete_gaussian(
            terms.threshold - terms.num_colluders - 1,
            variance=int(terms.noise.share_variance),
            entropy=os.urandom,
        )
        return int(entered.words[self.bias]) + int(entered.noise[self.bias]) + int(others.sum())

    def bound(self, *, noise: float) -> float:
        """A bound on epsilon, false with a probability of 5 %, where sites draw ``noise`` times the
        noise that they should."""
        terms = weakened(self.terms, noise=noise)
        least = THRESHOLD * honest_deviation(terms)

        def says_yes(is_there: bool) -> bool:
            site = self.white if is_there else self.none
            return self.released(site, terms=terms) < -least

        return proven_epsilon(says_yes, with_it=WITH_IT, without=WITHOUT, delta=DELTA)


@pytest.fixture(scope="module")
def game() -> Game:
    return Game()


def test_the_white_picture_is_the_worst_case(game: Game) -> None:
    """One clip norm, in one word, with the sign that the attack expects."""
    assert game.terms.grid is not None
    moved = [
        game.summer.sum(game.weights, game.white, round_number=1, seeds=SeedTree(0)).words
        for _ in range(20)
    ]
    sizes = [-int(words[game.bias]) for words in moved if words.any()]
    assert len(sizes) > 10
    assert all(np.count_nonzero(words) <= 1 for words in moved)
    assert sum(size > 0.99 * game.terms.grid.steps for size in sizes) > 0.8 * len(sizes)
    assert max(sizes) <= game.terms.grid.steps


@pytest.mark.long
def test_a_plan_s_sums_prove_no_more_than_it_claims(game: Game) -> None:
    plan = plan_privacy(game.config, terms=game.terms)
    assert plan is not None
    assert 0.97 < plan.planned.value <= CLAIM
    assert game.bound(noise=1.0) <= CLAIM


def test_a_tenth_of_the_noise_is_found(game: Game) -> None:
    assert game.bound(noise=0.1) > CLAIM
