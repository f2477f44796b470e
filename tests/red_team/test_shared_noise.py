"""A release's guarantee against colluders, against an image's company, and against a weak plan."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest

from attacks.epsilon.independent import epsilon_from_counts
from phoenix_secure.config import ReleaseConfig, RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.payload import encode_sums
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.release.class_sums import sum_features
from phoenix_secure.release.features import FeatureMap, exact_features
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.rng import SeedTree

SETTINGS = [
    "federation.rounds=1",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=2",
    "release.features=hog",
    "release.num_features=400",
    "data.image_size=8",
    "data.channels=1",
]


def terms_of(num_sites: int, *, collusion: float, dropout: float) -> tuple[SecureTerms, RunConfig]:
    config = load_config(
        None,
        [
            *SETTINGS,
            f"partition.num_sites={num_sites}",
            f"secure_aggregation.collusion={collusion}",
            f"secure_aggregation.dropout={dropout}",
        ],
    )
    layout = layout_of_release(config.release, channels=1, image_size=8, num_classes=10)
    return choose_terms(config, num_parameters=layout.num_words, layout=layout), config


@pytest.mark.parametrize(
    ("num_sites", "collusion", "dropout"),
    [(5, 0.1, 0.1), (7, 0.1, 0.2), (10, 0.1, 0.1), (10, 0.3, 0.2), (30, 0.2, 0.1)],
)
def test_noise_that_colluders_do_not_know_is_what_was_promised(
    num_sites: int, collusion: float, dropout: float
) -> None:
    terms, config = terms_of(num_sites, collusion=collusion, dropout=dropout)
    assert terms.noise is not None
    assert terms.grid is not None
    # The worst case: everybody who may vanish did, and every colluder is in the sum.
    unknown = terms.threshold - terms.num_colluders
    left = math.sqrt(unknown * terms.noise.share_variance)
    left /= math.sqrt(terms.grid.squared_sensitivity)

    spent = epsilon_of(
        [PoissonSampledGaussian(sampling_rate=1.0, noise_multiplier=left, steps=1)],
        delta=config.privacy.delta,
    )
    assert spent.value <= 2 * (1 + 1e-6)


def test_every_set_of_survivors_holds_the_noise() -> None:
    terms, _ = terms_of(5, collusion=0.1, dropout=0.1)
    assert terms.noise is not None
    nothing = IntegerSums(words=np.zeros(terms.num_words, np.int64))
    shares = []
    for _ in range(5):
        noise = encode_sums(nothing, terms=terms).noise
        assert noise is not None
        shares.append(noise.astype(np.float64))
    # A third of the variance of one share is lost in none of them: 4,010 words tell.
    honest = terms.threshold - terms.num_colluders
    promised = terms.noise.event
    for survivors in itertools.combinations(range(5), terms.threshold):
        for known in survivors:
            left = sum(shares[index] for index in survivors if index != known)
            variance = float(np.asarray(left).var())
            assert variance > 0.9 * honest * terms.noise.share_variance
    assert promised.gaussian.noise_multiplier > 0.99 * terms.noise.noise_multiplier


def proven_epsilon(*, noise: float) -> float:
    """What an adversary proves who knows all images but one, from sums of the fewest survivors of
    whom one colludes; sites draw ``noise`` times the deviation that their ledgers say."""
    terms, config = terms_of(5, collusion=0.1, dropout=0.1)
    assert terms.grid is not None
    assert terms.noise is not None
    layout = layout_of_release(config.release, channels=1, image_size=8, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    picture = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8), dtype=np.uint8)
    one = SiteImages(images=picture, labels=np.zeros(1, np.int64))
    moved = sum_features(one, features, grid=terms.grid, num_classes=10).words
    # Words that the image does not move tell nothing: their noise is independent.
    moved = moved[moved != 0].astype(np.float64)
    assert moved @ moved > 0.95 * terms.grid.squared_sensitivity
    variance = int(noise**2 * terms.noise.share_variance)
    num_draws = terms.threshold - terms.num_colluders, 200

    def seen(with_it: bool) -> np.ndarray:
        shares = draw_discrete_gaussian(
            math.prod(num_draws) * moved.size, variance=variance, entropy=os.urandom
        )
        noised = shares.reshape(*num_draws, moved.size).sum(axis=0) + with_it * moved
        projected: np.ndarray = noised @ moved / (moved @ moved)
        return projected

    return epsilon_from_counts(
        false_positives=int((seen(False) > 0.5).sum()),
        num_out=200,
        false_negatives=int((seen(True) <= 0.5).sum()),
        num_in=200,
        delta=config.privacy.delta,
    )


def test_a_release_proves_no_more_than_it_claims_and_a_tenth_of_its_noise_is_found() -> None:
    assert proven_epsilon(noise=1.0) <= 2
    assert proven_epsilon(noise=0.1) > 2


def test_an_image_s_bits_do_not_tell_of_its_company() -> None:
    release = ReleaseConfig.model_validate({"features": "pixel-hog", "num_features": 400})
    layout = layout_of_release(release, channels=1, image_size=28, num_classes=1)
    features = FeatureMap(layout, seeds=SeedTree(0))
    images = np.random.default_rng(0).integers(0, 256, (101, 1, 28, 28), np.uint8)
    whole = np.concatenate(list(exact_features(images, features)))

    # Libraries choose another kernel for one image than for two, and for eight than for nine.
    for count in (1, 2, 3, 7, 8, 9, 33, 100):
        fewer = np.concatenate(list(exact_features(images[-count:], features)))
        assert np.array_equal(whole[-count:], fewer)


def test_a_plan_does_not_weaken_the_trust_that_an_owner_asks_for() -> None:
    config = load_config(None, SETTINGS)
    plan = Plan(federation="f", roster_hash="0" * 64, bundle_hash="0" * 64, config=config)

    assert SitePolicy(max_epsilon=3.0).objection(plan) == "privacy.trust is not among site-local"
    assert SitePolicy(max_epsilon=3.0, privacy_trust=("sum",)).objection(plan) is None
