"""The noise of sums of gradients: its law for every set of survivors, and its epsilon once more."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp
from scipy.stats import chisquare, kstest, norm

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.secagg import step_noise
from phoenix_secure.federation.secagg.payload import decode_sum, encode_sums
from phoenix_secure.federation.secagg.possible_sums import check_sum
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.privacy.events import DiscreteGaussianSum, least_share_variance
from phoenix_secure.privacy.integer_grid import IntegerSums

SETTINGS = [
    *("federation.exchange=gradients", "federation.server_optimizer=fedadam"),
    *("training.local_steps=1", "training.batch_size=40", "secure_aggregation.word_bits=32"),
    *("privacy.unit=record", "privacy.trust=sum", "privacy.epsilon=2"),
    *("privacy.sampling_rate=0.02", "privacy.clip_norm=0.5"),
]


def configured(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def terms_of(*overrides: str, num_parameters: int = 3000) -> SecureTerms:
    return choose_terms(configured(*overrides), num_parameters=num_parameters)


def stream(label: str) -> Callable[[int], bytes]:
    """Repeatable bytes."""
    counter = itertools.count()
    return lambda size: hashlib.shake_256(f"{label}:{next(counter)}".encode()).digest(size)


def p_value(drawn: np.ndarray, variance: float) -> float:
    """Of a chi-square test against N_Z(0, variance), by its definition, in cells of sigma / 4."""
    sigma = math.sqrt(variance)
    reach, width = 12 * int(sigma + 1), max(1, int(sigma / 4))
    values = np.arange(-reach, reach + 1)
    chances = np.exp(-(values**2) / (2 * variance))
    cell = np.clip(np.floor_divide(values, width), -10, 9) + 10
    expected = np.bincount(cell, chances / chances.sum(), minlength=20) * drawn.size
    observed = np.bincount(np.clip(np.floor_divide(drawn, width), -10, 9) + 10, minlength=20)
    return float(chisquare(observed, expected).pvalue)


FEDERATIONS = [(5, 0.1, 0.2), (7, 0.1, 0.2), (10, 0.1, 0.1), (10, 0.3, 0.2), (16, 0.2, 0.1)]


@pytest.mark.long
@pytest.mark.parametrize(("num_sites", "collusion", "dropout"), FEDERATIONS)
def test_for_every_number_of_survivors_the_honest_shares_have_the_law_that_is_accounted_for(
    num_sites: int, collusion: float, dropout: float
) -> None:
    """At the least variance, where it would show first. All c colluders are in every sum."""
    terms = terms_of(
        f"partition.num_sites={num_sites}",
        f"secure_aggregation.collusion={collusion}",
        f"secure_aggregation.dropout={dropout}",
    )
    shares = np.array(
        [
            draw_discrete_gaussian(20_000, variance=64, entropy=stream(f"{num_sites} {site}"))
            for site in range(num_sites)
        ]
    )
    assert terms.noise is not None
    assert isinstance(terms.noise.event, DiscreteGaussianSum)
    promised = terms.noise.event.num_shares
    for survivors in range(terms.threshold, num_sites + 1):
        honest = survivors - terms.num_colluders
        assert honest >= promised
        assert p_value(shares[:honest].sum(axis=0), 64 * honest) > 1e-4
        # Must fail: a share less or more than that.
        assert p_value(shares[: honest - 1].sum(axis=0), 64 * honest) < 1e-4
        assert p_value(shares[:honest].sum(axis=0), 64 * (honest - 1)) < 1e-4


def test_shares_of_a_real_plan_have_the_moments_of_a_gaussian() -> None:
    terms = terms_of("partition.num_sites=10", num_parameters=20_000)
    assert terms.noise is not None
    assert terms.noise.share_variance > 2.0**30
    nothing = IntegerSums(words=np.zeros(20_000, np.int64))
    shares = [
        encode_sums(nothing, terms=terms, entropy=stream(f"moments {site}")).noise
        for site in range(10)
    ]
    assert all(share is not None for share in shares)
    for survivors in range(terms.threshold, 11):
        total = np.sum(shares[:survivors], axis=0).astype(np.float64)
        total /= math.sqrt(survivors * terms.noise.share_variance)
        assert abs(total.mean()) < 4 / math.sqrt(20_000)
        assert abs(total.var() - 1) < 4 * math.sqrt(2 / 20_000)
        assert abs((total**3).mean()) < 4 * math.sqrt(15 / 20_000)
        assert abs((total**4).mean() - 3) < 4 * math.sqrt(96 / 20_000)
        assert kstest(total, norm.cdf).pvalue > 1e-4


@given(
    st.floats(1e-3, 1e2), st.integers(16, 1 << 22), st.integers(1, 200), st.sampled_from([1, 7, 99])
)
def test_the_least_share_is_enough_and_hardly_more(
    noise: float, steps: int, shares: int, words: int
) -> None:
    variance = least_share_variance(noise_multiplier=noise, l2_sensitivity=steps, num_shares=shares)
    event = DiscreteGaussianSum(
        num_words=words,
        sampling_rate=0.5,
        l2_sensitivity=float(steps),
        share_variance=float(variance),
        num_shares=shares,
        steps=1,
    )
    assert event.gaussian.noise_multiplier >= noise
    if variance > 66:  # an event knows no share below 64
        least = dataclasses.replace(event, share_variance=variance * (1 - 1e-9) - 1.0)
        assert least.gaussian.noise_multiplier < noise * (1 + 1e-9)


def test_the_last_bits_of_an_accountant_change_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor's: sites that drew other noise would refuse each other's rounds."""
    expected = terms_of("partition.num_sites=10", num_parameters=160_401)
    found = step_noise.noise_multiplier_for
    for error in (-1e-12, 1e-12):
        monkeypatch.setattr(
            step_noise,
            "noise_multiplier_for",
            lambda error=error, **how: found(**how) * (1 + error),
        )
        assert terms_of("partition.num_sites=10", num_parameters=160_401) == expected
    assert expected.noise is not None
    least = found(epsilon=2.0, delta=1e-5, sampling_rate=0.02, steps=10)
    assert least <= expected.noise.noise_multiplier < least * (1 + 1e-5)


def own_delta(epsilon: float, *, rate: float, noise: float, steps: int) -> float:
    """delta at ``epsilon`` of composed subsampled Gaussians, from the law of the privacy loss on a
    grid; no library of privacy has a part in it.

    L(x) = log(1 - q + q exp((2 x - 1) / (2 z^2))) is the loss of the record being there. The steps'
    laws are convolved by an FFT. The larger of both directions.
    """
    num_cells, reach = 1 << 18, 40.0
    edges = np.linspace(-reach, reach, num_cells + 1)
    middle = (edges[1:] + edges[:-1]) / 2

    def composed(cells: np.ndarray) -> float:
        spectrum = np.fft.rfft(np.fft.ifftshift(cells)) ** steps
        law = np.fft.fftshift(np.fft.irfft(spectrum, num_cells)).clip(0)
        # Cells are centred half a step off zero, once for each step.
        loss = middle + (steps - 1) * (middle[num_cells // 2])
        above = loss > epsilon
        return float((law[above] * -np.expm1(epsilon - loss[above])).sum())

    inside = np.maximum(np.exp(edges) - (1 - rate), 1e-300) / rate
    x = noise**2 * np.log(inside) + 0.5
    without, with_it = norm.cdf(x / noise), norm.cdf((x - 1) / noise)
    there = np.diff((1 - rate) * without + rate * with_it)
    return max(composed(there), composed(np.diff(without)[::-1]))


def own_renyi_epsilon(*, rate: float, noise: float, steps: int, delta: float) -> float:
    """Mironov, Talwar and Zhang (2019), section 3.3, at whole orders, where it holds for discrete
    Gaussians as it stands; Mironov (2017), Proposition 3."""
    best = math.inf
    for order in range(2, 256):
        j = np.arange(order + 1)
        log_binomial = gammaln(order + 1) - gammaln(j + 1) - gammaln(order - j + 1)
        terms = log_binomial + (order - j) * math.log1p(-rate) + j * math.log(rate)
        terms = terms + (j * j - j) / (2 * noise**2)
        curve = steps * float(logsumexp(terms)) / (order - 1)
        best = min(best, curve + math.log(1 / delta) / (order - 1))
    return best


@pytest.mark.parametrize(
    "overrides",
    [
        ["federation.rounds=60"],
        pytest.param(
            ["federation.rounds=1500", "privacy.epsilon=1", "privacy.delta=1e-6"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["federation.rounds=300", "privacy.epsilon=8", "privacy.sampling_rate=0.1"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_epsilon_is_recomputed_from_what_the_sites_draw(overrides: list[str]) -> None:
    """From grid, share and survivors alone, by other accountants than the plan's."""
    config = configured("partition.num_sites=10", *overrides)
    terms = choose_terms(config, num_parameters=160_401)
    plan = plan_privacy(config, terms=terms)
    assert plan is not None
    assert terms.noise is not None
    assert terms.grid is not None
    honest = terms.threshold - terms.num_colluders
    noise = math.sqrt(honest * terms.noise.share_variance / terms.grid.squared_sensitivity)
    rate, steps, delta = (
        config.privacy.sampling_rate,
        config.federation.rounds,
        config.privacy.delta,
    )

    claimed, target = plan.planned.value, config.privacy.epsilon
    assert target is not None
    assert 0.97 * target < claimed <= target
    assert own_delta(claimed * 1.005, rate=rate, noise=noise, steps=steps) <= delta
    assert own_delta(claimed * 0.99, rate=rate, noise=noise, steps=steps) > delta
    assert plan.planned.figures["prv (opacus)"] == pytest.approx(claimed, rel=0.02)
    # Renyi bounds lie above; by how much depends on the rate.
    accountant = RdpAccountant()
    gaussian = dp_accounting.GaussianDpEvent(noise)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, gaussian), steps)
    assert claimed <= accountant.get_epsilon(delta) < 1.5 * claimed
    own = own_renyi_epsilon(rate=rate, noise=noise, steps=steps, delta=delta)
    assert claimed <= own < 1.7 * claimed
    # Must fail: without the share that the colluders know, or with their own counted.
    fewer = noise * math.sqrt((honest - 1) / honest)
    assert own_delta(claimed, rate=rate, noise=fewer, steps=steps) > 1.1 * delta


def test_the_sum_comes_back_as_the_mean_gradient() -> None:
    terms = terms_of("partition.num_sites=5", "privacy.clip_norm=0.25", num_parameters=400)
    assert terms.grid is not None
    rng = np.random.default_rng(2)
    gradients = rng.normal(size=(5, 8, 400))
    gradients *= 0.25 / np.linalg.norm(gradients, axis=2, keepdims=True) / (1 + 1e-9)
    modulus, words = 1 << 32, np.zeros(400, np.int64)
    extra = np.zeros(len(terms.metric_words.bounds), np.int64)
    for site in gradients:
        rounded = terms.grid.round(site / 0.25).sum(axis=0)
        payload = encode_sums(IntegerSums(words=rounded), terms=terms)
        assert payload.noise is not None
        words += payload.words + payload.noise
        extra += payload.extra
    update, metrics = decode_sum(
        (words % modulus).astype(np.uint32),
        tuple(int(each) for each in extra),
        num_sites=5,
        terms=terms,
    )
    assert metrics.num_failed == 0
    expected = gradients.sum(axis=(0, 1)) / (5 * 40)
    assert terms.noise is not None
    deviation = math.sqrt(5 * terms.noise.share_variance) / terms.scale / 5
    assert (update - expected).std() == pytest.approx(deviation, rel=0.15)
    # In clip norms over the divisor it is the plan's noise multiplier, and the surplus.
    assert deviation * 5 * 40 / 0.25 == pytest.approx(
        terms.noise.noise_multiplier * math.sqrt(5 / terms.num_honest), rel=0.01
    )


def test_sums_that_honest_sites_cannot_have_entered_are_refused() -> None:
    terms = terms_of("partition.num_sites=5", num_parameters=400)
    largest = 5 * terms.clip_value
    check_sum(np.full(400, 0.9 * largest), weight=5.0, num_sites=5, terms=terms)
    with pytest.raises(ValueError, match="clip_value"):
        check_sum(np.full(400, 1.5 * largest), weight=5.0, num_sites=5, terms=terms)
    assert terms.grid is not None
    too_large = IntegerSums(words=np.full(400, terms.grid.limit + 1))
    with pytest.raises(ValueError, match="limit"):
        encode_sums(too_large, terms=terms)


@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        (["secure_aggregation.word_bits=16"], "16-bit words are too narrow .*word_bits=32"),
        (["secure_aggregation.word_bits=24", "training.batch_size=1000"], "too narrow"),
        (["partition.num_sites=4"], "needs at least 5 sites"),
        (["privacy.delta=0.1"], "privacy.delta = 0.1 must be well below"),
        (["privacy.epsilon=0.0001", "federation.rounds=20000"], "raise epsilon"),
    ],
)
def test_plans_that_cannot_hold_are_refused(overrides: list[str], fix: str) -> None:
    config = configured("partition.num_sites=5", *overrides)
    with pytest.raises(ConfigError, match=fix):
        plan_privacy(config, terms=choose_terms(config, num_parameters=160_401))


def test_the_guarantee_says_what_it_trusts_and_what_is_surplus() -> None:
    config = configured("partition.num_sites=10", "federation.rounds=60")
    terms = choose_terms(config, num_parameters=3000)
    guarantee = guarantee_of(config, plan_privacy(config, terms=terms), terms=terms)

    assert guarantee.trust is not None
    assert (guarantee.trust.num_colluders, guarantee.trust.num_shares) == (1, 8)
    assert guarantee.trust.surplus == pytest.approx(math.sqrt(10 / 8))
    assert guarantee.trust.epsilon_alone > 2
    assert "at most 1 of 10 sites work with the server" in guarantee.text
    assert (guarantee.steps, guarantee.sampling_rate, guarantee.clip_norm) == (60, 0.02, 0.5)
    fewer = configured("partition.num_sites=10", "federation.rounds=60", "privacy.epsilon=1")
    assert choose_terms(fewer, num_parameters=3000).privacy_hash != terms.privacy_hash
