"""Plans noise and releases from the settings."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.data.persons import persons_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import max_participations
from phoenix_secure.federation.secagg.noise import SummedNoise
from phoenix_secure.federation.secagg.spent_before import spent_before
from phoenix_secure.federation.secagg.terms import SecureTerms, summed_noise
from phoenix_secure.privacy.accounting import Epsilon, epsilon_of
from phoenix_secure.privacy.calibration import check_budget, noise_multiplier_for
from phoenix_secure.privacy.events import (
    Event,
    PoissonSampledGaussian,
    repeated,
)
from phoenix_secure.privacy.safe_side import two_digits_down, two_digits_up
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.training.private import public_steps

__all__ = [
    "LARGE_DELTA",
    "PrivacyPlan",
    "check_images",
    "continuing",
    "num_records",
    "plan_privacy",
]

# A template of the log, for whoever knows it already.
LARGE_DELTA = "privacy.delta = %g is above 1/%s^2 = %.2g of %s: a smaller one says more"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyPlan:
    """The number of releases each site may make in a run, and the privacy they spend.

    event           of one release: one round of one site
    max_releases    rounds that one site may answer; the noise is made for so many
    planned         epsilon of all of them together, and of ``before``
    before          what the runs behind ``model.init_from`` spent of the same budget
    sums            of sums that are noised as whole numbers; else None
    """

    unit: str
    noise_multiplier: float
    event: Event
    max_releases: int
    planned: Epsilon
    before: tuple[Event, ...] = ()
    sums: SummedNoise | None = None

    def events(self, releases: int | None = None) -> tuple[Event, ...]:
        """The composition of ``releases`` of them; of all of them by default."""
        count = self.max_releases if releases is None else releases
        return repeated(self.event, count)

    @property
    def counted(self) -> tuple[Event, ...]:
        """All that ``planned`` composes."""
        return (*self.before, *self.events())


def continuing(
    plan: PrivacyPlan | None, config: RunConfig, begun: Iterable[Event]
) -> PrivacyPlan | None:
    """``plan`` with the noise that a run has ``begun`` with, where that is within its budget too.

    An earlier version's calibration may have found a little more noise for the same epsilon, and a
    run's releases must be of one mechanism.
    """
    first = next(iter(begun), None)
    if plan is None or first is None or first == plan.event:
        return plan
    if not isinstance(first, PoissonSampledGaussian) or config.privacy.epsilon is None:
        return plan
    if not isinstance(plan.event, PoissonSampledGaussian):
        return plan
    if (first.sampling_rate, first.steps) != (plan.event.sampling_rate, plan.event.steps):
        return plan
    planned = epsilon_of(
        (*plan.before, *repeated(first, plan.max_releases)), delta=config.privacy.delta
    )
    if planned.value > config.privacy.epsilon:
        return plan
    return dataclasses.replace(
        plan, noise_multiplier=first.noise_multiplier, event=first, planned=planned
    )


def plan_privacy(
    config: RunConfig,
    *,
    terms: SecureTerms | None,
    layout: ReleaseLayout | None = None,
    num_parameters: int = 0,
) -> PrivacyPlan | None:
    """The plan that follows from the settings; None where no unit is named.

    layout           of a release
    num_parameters   of a classifier, whose sums are noised without secure aggregation, too

    Guarantee:  the same settings give the same plan everywhere; ``planned`` is within
                ``privacy.epsilon``, where it is set.
    Raises:     ConfigError naming the setting; AccountingError.
    """
    privacy = config.privacy
    if privacy.unit == "none":
        return None
    check_budget(delta=privacy.delta, epsilon=privacy.epsilon, sampling_rate=privacy.sampling_rate)
    if config.sums_whole_numbers:
        if terms is None and privacy.trust == "sum":
            raise ConfigError(
                "privacy.trust = sum needs secure_aggregation.mode = on: the noise of one site "
                "alone does not hide its images from the server"
            )
        made = summed_noise(config, terms=terms, layout=layout, num_parameters=num_parameters)
        return _sum_plan(config, made)
    local_steps = public_steps(config)
    releases = max_participations(config)
    if privacy.unit == "site":
        return _site_plan(config, terms, releases=releases)
    steps = releases * local_steps
    before = spent_before(config)
    noise = privacy.noise_multiplier or noise_multiplier_for(
        epsilon=privacy.epsilon or math.inf,
        delta=privacy.delta,
        sampling_rate=privacy.sampling_rate,
        steps=steps,
        before=before,
    )
    event = PoissonSampledGaussian(
        sampling_rate=privacy.sampling_rate,
        noise_multiplier=noise,
        steps=local_steps,
        unit=privacy.record_kind,
    )
    return PrivacyPlan(
        unit=privacy.unit,
        noise_multiplier=noise,
        event=event,
        max_releases=releases,
        planned=epsilon_of((*before, *repeated(event, releases)), delta=privacy.delta),
        before=before,
    )


def _site_plan(config: RunConfig, terms: SecureTerms | None, *, releases: int) -> PrivacyPlan:
    privacy = config.privacy
    if terms is None or terms.noise is None:
        raise ConfigError(
            "privacy.unit = site needs secure_aggregation.mode = on: the noise of one site alone "
            "does not hide its update from the server"
        )
    if privacy.release_metrics:
        raise ConfigError(
            "privacy.release_metrics is not possible with privacy.unit = site: sums of losses and "
            "numbers of images would leave without noise; set it to false"
        )
    if privacy.delta >= 1 / config.partition.num_sites:
        raise ConfigError(
            f"privacy.delta = {privacy.delta:g} is not below 1/sites = "
            f"{1 / config.partition.num_sites:g}: one site could be fully disclosed; lower it"
        )
    event = terms.noise.event
    return PrivacyPlan(
        unit="site",
        noise_multiplier=terms.noise.noise_multiplier,
        event=event,
        max_releases=releases,
        planned=epsilon_of(repeated(event, releases), delta=privacy.delta),
    )


def _sum_plan(config: RunConfig, made: SummedNoise) -> PrivacyPlan:
    """Of a release, or of the steps of gradients that one site may answer."""
    noise, event = made.noise, made.noise.event
    releases = 1 if config.release.is_on else max_participations(config)
    before = spent_before(config)
    return PrivacyPlan(
        unit=config.privacy.unit,
        noise_multiplier=noise.noise_multiplier,
        event=event,
        max_releases=releases,
        planned=epsilon_of((*before, *repeated(event, releases)), delta=config.privacy.delta),
        before=before,
        sums=made,
    )


def num_records(config: RunConfig, *, num_images: int, groups: np.ndarray | None) -> int:
    """What the settings' unit counts at a site: images, or persons under unit group.

    Raises:     DataError for persons of whom ``groups`` (n,) says nothing.
    """
    if config.privacy.unit != "group":
        return num_images
    return len(persons_of(groups, num_images=num_images))


def check_images(config: RunConfig, num_records: Mapping[str, int]) -> None:
    """Whether each site has enough images (persons, under unit group) for the settings' unit and
    delta; the log warns of a delta above 1/images^2.

    The answer follows from their number: it is for whoever holds them, never for a server.

    num_records   of each site that the caller holds: one, or all of a simulation

    Raises:     ConfigError naming the setting, every site, and the nearest value for all.
    """
    privacy = config.privacy
    if not privacy.is_dp_sgd:
        return
    one, many = ("person", "persons") if privacy.unit == "group" else ("image", "images")
    if empty := [site for site, num in num_records.items() if num == 0]:
        raise ConfigError(f"no image to train on at {_listed(empty)}: updates would be noise alone")
    exposed = {site: num for site, num in num_records.items() if privacy.delta >= 1 / num}
    if exposed:
        raise ConfigError(
            f"privacy.delta = {privacy.delta:g} is not below 1/{many} at {_counted(exposed)}: one "
            f"{one} could be fully disclosed; set it below "
            f"{two_digits_down(1 / max(exposed.values())):g}"
        )
    rate = privacy.sampling_rate
    idle = {site: num for site, num in num_records.items() if rate * num < 1}
    if idle and not config.release.is_on:
        raise ConfigError(
            f"privacy.sampling_rate = {rate:g} samples less than one a step of the {many} at "
            f"{_counted(idle)}: updates would be noise alone. Set it to "
            f"{two_digits_up(1 / min(idle.values())):g} or more, or leave these sites out"
        )
    large = {site: num for site, num in num_records.items() if privacy.delta > 1 / num**2}
    if large:
        site = max(large, key=lambda name: large[name])
        others = f" (and {len(large) - 1} more)" if len(large) > 1 else ""
        _log.warning(LARGE_DELTA, privacy.delta, many, 1 / large[site] ** 2, site + others)


def _listed(sites: Iterable[str]) -> str:
    return ", ".join(sites)


def _counted(sites: Mapping[str, int]) -> str:
    return _listed(f"{site} ({num:,})" for site, num in sites.items())
