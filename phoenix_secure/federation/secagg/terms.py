"""What all parties of a run agree on before its first round: thresholds, word size, bounds.

Server and sites compute the terms by themselves, each from its own settings; the protocol's
policy check then refuses a round whose terms are not the site's own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import CohortDraw, cohort_size, max_participations
from phoenix_secure.federation.round.report import TermsRecord
from phoenix_secure.federation.round.sparse_graph import SparseGraph
from phoenix_secure.federation.secagg.adaptive_clip import clip_bit_value, sensitivity_ratio
from phoenix_secure.federation.secagg.metrics import MetricWords
from phoenix_secure.federation.secagg.noise import SiteNoise, SummedNoise, choose_site_noise
from phoenix_secure.federation.secagg.release_noise import (
    choose_release_noise,
    plaintext_release_noise,
)
from phoenix_secure.federation.secagg.step_noise import step_noise
from phoenix_secure.federation.secagg.thresholds import choose_threshold
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.release.layout import ReleaseLayout
from protocol import ClientPolicy, Roster, RoundSpec
from protocol.fixed_point import FixedPoint
from protocol.parameters import MIN_CLIENTS, MIN_HONEST, highest_threshold, max_input
from protocol.regular_graph import RegularGraph
from protocol.suite import Suite

__all__ = ["SecureTerms", "choose_terms", "summed_noise"]

_RMS_CLIP = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class SecureTerms:
    """The terms of one run.

    num_parameters   d, those of one answer: what stays at a site does not count
    cohort_size      n, sites asked in each round
    num_colluders    c, sites of the whole roster that may work with the server
    draw             who is asked in which training round
    threshold        t, sites that must stay: signatures that unlock a sum; on the complete graph
                     shares that rebuild a secret, too
    graph            the k-regular one of more than 128 sites; None: everybody with everybody
    scale            fixed-point steps per unit
    clip_norm        L2 norm that an update is scaled down to
    clip_bit_value      under an adaptive clip norm, what one more coordinate holds: plus for an
                     update within the norm, minus for another; 0 without
    clip_value       largest change of one parameter that enters the sum
    max_images       W: an update enters with weight min(images, W) / W
    collusion        gamma, from which every site checks c by itself
    policy_hash      SHA-256 over the settings that decide what a site trains
    privacy_hash     SHA-256 over the differential-privacy settings
    hides_metrics    sites count alike, and tell neither losses nor numbers of images
    noise            what the sites add, under privacy unit ``site``, trust ``sum`` or in a release;
                     else None
    grid             under trust ``sum``, in a release or a pooled audit: the whole numbers that
                     sums are made of; else None
    is_exact         whole numbers leave without noise, and that is meant: a pooled audit's
    suite            of keys and signatures; the roster's
    """

    num_parameters: int
    cohort_size: int
    draw: CohortDraw
    num_colluders: int
    threshold: int
    word_bits: int
    scale: float
    clip_norm: float
    clip_value: float
    max_images: int
    collusion: float
    policy_hash: bytes
    privacy_hash: bytes
    hides_metrics: bool = False
    noise: SiteNoise | None = None
    clip_bit_value: float = 0.0
    grid: IntegerGrid | None = None
    is_exact: bool = False
    suite: Suite = Suite.CLASSICAL
    graph: RegularGraph | None = None

    @property
    def num_honest(self) -> int:
        """t - c: the fewest honest updates in any sum, if all colluders of the roster are in it."""
        return self.threshold - self.num_colluders

    @property
    def num_words(self) -> int:
        """Coordinates of what a site enters."""
        return self.num_parameters + (self.clip_bit_value > 0)

    @property
    def fixed_point(self) -> FixedPoint:
        """The format of one coordinate."""
        return FixedPoint(scale=self.scale, clip=self.clip_value, word_bits=self.word_bits)

    @property
    def metric_words(self) -> MetricWords:
        """The format of what rides beside the update."""
        return MetricWords(
            digit_bits=max_input(self.cohort_size, word_bits=self.word_bits).bit_length() - 1,
            max_images=self.max_images,
        )

    @property
    def masked_bytes(self) -> int:
        """Bytes of one site's masked vector."""
        words = self.num_words + len(self.metric_words.bounds)
        return words * self.word_bits // 8

    def rounding_bound(self, *, num_sites: int, num_images: int) -> float:
        """Largest error of one coordinate of the mean update that rounding can cause.

        Each site's integer is less than one step away from scale * w * delta, so that the mean
        over ``num_sites`` sites with weights sum(w) = num_images / max_images is off by less than
        num_sites / (scale * sum(w)); its standard deviation is at most
        sqrt(num_sites) / (2 * scale * sum(w)).
        """
        return num_sites * self.max_images / (self.scale * num_images)

    def spec(
        self,
        *,
        roster: Roster,
        cohort: tuple[str, ...],
        protocol_round: int,
        model: bytes | Sequence[bytes | memoryview],
        previous: bytes,
    ) -> RoundSpec:
        """The first attempt at one protocol round; the model's bytes may come in parts."""
        digest = hashlib.sha256()
        for part in [model] if isinstance(model, bytes) else model:
            digest.update(part)
        return RoundSpec(
            federation_id=roster.federation_id,
            round=protocol_round,
            attempt=0,
            roster_hash=roster.hash,
            cohort=cohort,
            model_hash=digest.digest(),
            previous=previous,
            num_words=self.num_words,
            extra_bounds=self.metric_words.bounds,
            word_bits=self.word_bits,
            scale=self.scale,
            clip=self.clip_value,
            threshold=self.threshold if self.graph is None else self.graph.threshold,
            quorum=self.threshold,
            num_colluders=self.num_colluders,
            degree=0 if self.graph is None else self.graph.degree,
            noise_variance=self._noise_variance,
            privacy_hash=self.privacy_hash,
            policy_hash=self.policy_hash,
            suite=self.suite,
        )

    def policy(self, roster: Roster) -> ClientPolicy:
        """What a site with these terms takes part in; everything weaker is refused."""
        return ClientPolicy(
            federation_id=roster.federation_id,
            roster_hash=roster.hash,
            policy_hash=self.policy_hash,
            privacy_hash=self.privacy_hash,
            num_words=self.num_words,
            extra_bounds=self.metric_words.bounds,
            word_bits=self.word_bits,
            scale=self.scale,
            clip=self.clip_value,
            noise_variance=self._noise_variance,
            collusion=self.collusion,
            min_cohort=MIN_CLIENTS if self.num_colluders else MIN_HONEST,
            # The owner's own policy, and the plan that it signed, have said so by name before.
            allow_no_colluders=self.num_colluders == 0,
            # Whatever the cohort: a sum never hides among fewer honest inputs than the plan that
            # the owner signed.
            min_honest=self.num_honest,
            min_degree=0 if self.graph is None else self.graph.degree,
            min_threshold=0 if self.graph is None else self.graph.threshold,
            suite=self.suite,
        )

    @property
    def _noise_variance(self) -> float:
        return 0.0 if self.noise is None else self.noise.share_variance

    @property
    def record(self) -> TermsRecord:
        """What a reader of the run's records needs to judge it."""
        return TermsRecord(
            n=self.cohort_size,
            t=self.threshold,
            c=self.num_colluders,
            word_bits=self.word_bits,
            scale=self.scale,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            max_images=self.max_images,
            noise_variance_of_a_site=self._noise_variance,
            graph=None if self.graph is None else SparseGraph.of(self.graph),
        )


def choose_terms(
    config: RunConfig,
    *,
    num_parameters: int,
    largest_site: int | None = None,
    layout: ReleaseLayout | None = None,
) -> SecureTerms:
    """The terms that follow from the settings; ``layout`` is a release's.

    ``largest_site`` is the largest number of images at one site; only a run in one process knows
    it, and it is used only where ``secure_aggregation.max_images`` is empty.

    Guarantee:  the same settings give the same terms everywhere; no sum can wrap around; a round
                stands the dropout that the settings ask for.
    Raises:     ConfigError naming the setting.
    """
    settings = config.secure_aggregation
    n = cohort_size(config)
    graph = choose_threshold(config, cohort=n)
    try:
        largest = max_input(n, word_bits=settings.word_bits)
    except ValueError as error:
        raise ConfigError(f"secure_aggregation.word_bits: {error}") from error
    if not config.privacy.hides_metrics and settings.max_images is None and largest_site is None:
        raise ConfigError(
            "between machines nobody knows the largest site: set secure_aggregation.max_images "
            "to a public bound on one site's images"
        )
    privacy = config.privacy
    clip_norm = settings.clip_norm or _RMS_CLIP * math.sqrt(num_parameters)
    if privacy.unit == "site":
        clip_norm = privacy.clip_norm
    count = clip_bit_value(privacy)
    clip_value = max(min(settings.clip_value, clip_norm), count)
    scale = 2.0 ** math.floor(math.log2(largest / clip_value))
    noise, grid = None, None
    threshold = graph.quorum
    # Each site knows its own share of the noise and hears the sums. A colluder covers for it; with
    # c = 0 one share is left out of the count, so that epsilon also holds against a single site.
    num_knowing = max(1, graph.num_colluders)
    if privacy.trust == "sum":
        # The honest shares that every sum holds must be enough, and those beyond them are surplus:
        # the more sites a round waits for, the less of it.
        threshold = max(threshold, highest_threshold(n, delta=settings.dropout))
    if config.sums_whole_numbers:
        num_honest = threshold - num_knowing if privacy.trust == "sum" else 1
        if layout is not None:
            noise, grid = choose_release_noise(
                privacy,
                layout,
                cohort_size=n,
                num_honest=num_honest,
                word_bits=settings.word_bits,
            )
        else:
            made = step_noise(config, num_words=num_parameters, num_honest=num_honest)
            noise, grid = made.noise, made.grid
        scale, clip_value = noise.scale, grid.limit / noise.scale
        clip_norm = noise.l2_bound / noise.scale
    if privacy.unit == "site":
        noise = choose_site_noise(
            privacy,
            releases=max_participations(config),
            num_words=num_parameters + (count > 0),
            cohort_size=n,
            num_honest=threshold - num_knowing,
            clip_norm=clip_norm * sensitivity_ratio(privacy),
            clip_value=clip_value,
            word_bits=settings.word_bits,
        )
        scale = noise.scale
    max_images = settings.max_images or 1 << max(0, (largest_site or 1) - 1).bit_length()
    return SecureTerms(
        num_parameters=num_parameters,
        cohort_size=n,
        draw=CohortDraw.of(config),
        num_colluders=graph.num_colluders,
        threshold=threshold,
        word_bits=settings.word_bits,
        scale=scale,
        clip_norm=clip_norm,
        clip_value=clip_value,
        max_images=1 if privacy.hides_metrics else max_images,
        collusion=settings.collusion,
        policy_hash=_policy_hash(config),
        privacy_hash=_privacy_hash(config),
        hides_metrics=privacy.hides_metrics,
        noise=noise,
        clip_bit_value=count,
        grid=grid,
        suite=Suite(settings.suite),
        graph=graph if isinstance(graph, RegularGraph) else None,
    )


def summed_noise(
    config: RunConfig,
    *,
    terms: SecureTerms | None,
    layout: ReleaseLayout | None,
    num_parameters: int = 0,
) -> SummedNoise:
    """Noise and grid of sums of whole numbers: the terms', or without secure aggregation each
    site's own, of a release (``layout``) or of the steps of so many parameters.

    Raises:     ConfigError naming the setting; ValueError for terms without noise of sums.
    """
    if terms is None:
        if layout is not None:
            return plaintext_release_noise(config, layout)
        return step_noise(config, num_words=num_parameters, num_honest=1)
    if terms.grid is None or terms.noise is None:
        raise ValueError("expected terms with noise of sums")
    return SummedNoise(noise=terms.noise, grid=terms.grid)


def _privacy_hash(config: RunConfig) -> bytes:
    if config.privacy.unit == "none":
        return _hash({"differential_privacy": "off"})
    return _hash({"differential_privacy": config.privacy.model_dump(mode="json")})


def _policy_hash(config: RunConfig) -> bytes:
    """Over what decides a site's update: network, noising, training, strategies, clipping."""
    values = config.model_dump(
        mode="json",
        include={
            "model": True,
            "diffusion": True,
            "training": True,
            "federation": {"rounds", "exchange"},  # the latter unwritten for updates
            "sharing": True,
            "exchange": True,
            "filtering": True,
            "release": True,  # unwritten where it is off
            "secure_aggregation": {"mode", "clip_norm", "clip_value", "max_images"},
        },
    )
    return _hash(values)


def _hash(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"phoenix-secure/terms/v1:" + text.encode()).digest()
