"""Plans noise and releases from the settings, and states the guarantee that follows."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import PartitionConfig, PrivacyConfig, RunConfig
from phoenix_secure.data.persons import persons_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import max_participations
from phoenix_secure.federation.secagg.noise import SiteNoise
from phoenix_secure.federation.secagg.release_noise import plaintext_release_noise
from phoenix_secure.federation.secagg.spent_before import spent_before
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.privacy.accounting import Epsilon, bound_of, epsilon_of
from phoenix_secure.privacy.calibration import check_budget, noise_multiplier_for
from phoenix_secure.privacy.events import (
    Adjacency,
    DiscreteGaussianSum,
    Event,
    PoissonSampledGaussian,
    SkellamSum,
    repeated,
)
from phoenix_secure.privacy.guarantee import (
    NO_GUARANTEE,
    Guarantee,
    Promised,
    StartedFrom,
    SumTrust,
)
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.training.private import public_steps

__all__ = [
    "PrivacyPlan",
    "check_images",
    "continuing",
    "guarantee_of",
    "num_records",
    "plan_privacy",
]

_log = logging.getLogger(__name__)
# The way from random bytes to noise.
_SAMPLERS = {
    PoissonSampledGaussian: "",
    DiscreteGaussianSum: ", by exact rejection",
    SkellamSum: ", by table inversion",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyPlan:
    """The number of releases each site may make in a run, and the privacy they spend.

    event           of one release: one round of one site
    max_releases    rounds that one site may answer; the noise is made for so many
    planned         epsilon of all of them together, and of ``before``
    before          what the runs behind ``model.init_from`` spent of the same budget
    """

    unit: str
    noise_multiplier: float
    event: Event
    max_releases: int
    planned: Epsilon
    before: tuple[Event, ...] = ()

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
    config: RunConfig, *, terms: SecureTerms | None, layout: ReleaseLayout | None = None
) -> PrivacyPlan | None:
    """The plan that follows from the settings; None where no unit is named.

    layout   of a release

    Guarantee:  the same settings give the same plan everywhere; ``planned`` is within
                ``privacy.epsilon``, where it is set.
    Raises:     ConfigError naming the setting; AccountingError.
    """
    privacy = config.privacy
    if privacy.unit == "none":
        return None
    check_budget(delta=privacy.delta, epsilon=privacy.epsilon, sampling_rate=privacy.sampling_rate)
    if privacy.trust == "sum" or config.release.is_on:
        return _sum_plan(config, _noise_of_sums(config, terms, layout))
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
        unit="group" if privacy.unit == "group" else "record",
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


def _noise_of_sums(
    config: RunConfig, terms: SecureTerms | None, layout: ReleaseLayout | None
) -> SiteNoise:
    if terms is not None and terms.noise is not None:
        return terms.noise
    if config.privacy.trust == "sum":
        raise ConfigError(
            "privacy.trust = sum needs secure_aggregation.mode = on: the noise of one site alone "
            "does not hide its images from the server"
        )
    if layout is None:
        raise ValueError("expected the layout of a release")
    return plaintext_release_noise(config, layout).noise


def _sum_plan(config: RunConfig, noise: SiteNoise) -> PrivacyPlan:
    """Of a release, or of the steps of gradients that one site may answer."""
    event = noise.event
    releases = 1 if config.release.is_on else max_participations(config)
    before = spent_before(config)
    return PrivacyPlan(
        unit=config.privacy.unit,
        noise_multiplier=noise.noise_multiplier,
        event=event,
        max_releases=releases,
        planned=epsilon_of((*before, *repeated(event, releases)), delta=config.privacy.delta),
        before=before,
    )


def num_records(config: RunConfig, *, num_images: int, groups: np.ndarray | None) -> int:
    """What the settings' unit counts at a site: images, or persons under unit group.

    Raises:     DataError for persons of whom ``groups`` (n,) says nothing.
    """
    if config.privacy.unit != "group":
        return num_images
    return len(persons_of(groups, num_images=num_images))


def check_images(config: RunConfig, num_records: int, *, site: str) -> None:
    """Whether a site has enough images (persons, under unit group) for the settings' unit and
    delta; the log warns of a delta above 1/images^2.

    The answer follows from their number: it is for whoever holds them, never for a server.

    Raises:     ConfigError naming the setting.
    """
    privacy = config.privacy
    if not privacy.is_dp_sgd:
        return
    one, many = ("person", "persons") if privacy.unit == "group" else ("image", "images")
    if num_records == 0:
        raise ConfigError(f"{site} has no image to train on: its updates would be noise alone")
    if privacy.delta >= 1 / num_records:
        raise ConfigError(
            f"privacy.delta = {privacy.delta:g} is not below 1/{many} = {1 / num_records:g} of "
            f"{site}: one {one} could be fully disclosed; lower it"
        )
    if not config.release.is_on and privacy.sampling_rate * num_records < 1:
        raise ConfigError(
            f"{site} has {num_records} {one if num_records == 1 else many}, and "
            f"privacy.sampling_rate = {privacy.sampling_rate:g} samples less than one a step: its "
            "updates would be noise alone. Raise sampling_rate, or leave the site out"
        )
    if privacy.delta > 1 / num_records**2:
        _log.warning(
            "privacy.delta = %g is above 1/%s^2 = %.2g of %s: a smaller one says more",
            privacy.delta,
            many,
            1 / num_records**2,
            site,
        )


def guarantee_of(
    config: RunConfig,
    plan: PrivacyPlan | None,
    *,
    spent: Mapping[str, Iterable[Event]] | None = None,
    dealt: PartitionConfig | None = None,
    terms: SecureTerms | None = None,
) -> Guarantee:
    """The guarantee of a run. No image has a part in it.

    terms    of secure rounds, on which a guarantee of trust ``sum`` rests
    spent    each site's recorded events, where they can be read
    dealt    how a simulation partitioned the images; None where each site brings its own
    """
    start = _started_from(config)
    if plan is None:
        return dataclasses.replace(NO_GUARANTEE, start=start)
    privacy, event = config.privacy, plan.event
    one = "person" if privacy.unit == "group" else "image"
    is_secret = privacy.noise_source == "secure"
    per_site = {
        site: round(epsilon_of([*plan.before, *events], delta=privacy.delta).value, 6)
        for site, events in (spent or {}).items()
    }
    of_persons = " of persons" if privacy.unit == "group" else ""
    if isinstance(event, SkellamSum):
        steps, rate = plan.max_releases, None
        mechanism = "Skellam noise of all sites inside secure aggregation, each update clipped"
        if privacy.adaptive_clip:
            mechanism += (
                f" to a norm that follows a noised count ({privacy.clip_budget:.3g} of the squared "
                "sensitivity)"
            )
        sampler = "none: every draw of a cohort counts in full"
    elif isinstance(event, DiscreteGaussianSum) and config.release.is_on:
        steps, rate = event.steps, None
        shared = config.privacy.trust == "sum"
        whose = "of all sites inside secure aggregation" if shared else "at each site"
        mechanism = f"one release of class-wise sums of features, discrete Gaussian noise {whose}"
        if privacy.unit == "group":
            mechanism += ", each person's sum clipped"
        sampler = f"none: every {one} enters once"
    elif isinstance(event, DiscreteGaussianSum):
        steps, rate = plan.max_releases * event.steps, event.sampling_rate
        mechanism = (
            f"DP-SGD on sums of per-{one} clipped gradients, discrete Gaussian noise of all sites "
            f"inside secure aggregation{_images_of(privacy)}"
        )
        sampler = (
            f"Poisson{of_persons} at each site, rate {event.sampling_rate:g}; cohorts amplify "
            "nothing"
        )
    else:
        steps, rate = plan.max_releases * event.steps, event.sampling_rate
        mechanism = (
            f"DP-SGD: per-{one} gradients clipped, Gaussian noise at each site{_images_of(privacy)}"
        )
        sampler = f"Poisson{of_persons}, rate {event.sampling_rate:g}; cohorts amplify nothing"
    replaced = epsilon_of(plan.counted, delta=privacy.delta, adjacency=Adjacency.REPLACE_ONE)
    return Guarantee(
        unit=plan.unit,
        epsilon=plan.planned.value if is_secret else None,
        delta=privacy.delta,
        replace_one=replaced.value if is_secret else None,
        figures=plan.planned.figures,
        replace_one_figures=replaced.figures,
        noise_multiplier=plan.noise_multiplier,
        clip_norm=None if config.release.is_on else privacy.clip_norm,
        sampling_rate=rate,
        steps=steps,
        releases=plan.max_releases,
        mechanism=mechanism,
        sampler=sampler,
        noise_source=(
            f"AES-256-CTR keyed by the operating system{_SAMPLERS[type(event)]}"
            if is_secret
            else "seeded, repeatable"
        ),
        per_site=per_site if is_secret else {},
        warnings=_warnings(config, plan),
        condition=_condition(config, dealt),
        trust=_trust(plan, delta=privacy.delta, sites=config.partition.num_sites, terms=terms),
        start=start,
        events=plan.events(),
    )


def _images_of(privacy: PrivacyConfig) -> str:
    """What of a person enters a step; nothing where images stand for themselves."""
    if privacy.unit != "group":
        return ""
    return f", a person's the mean over at most {privacy.images_per_group} of her images a step"


def _started_from(config: RunConfig) -> StartedFrom | None:
    start = config.model.start
    if start is None:
        return None
    return StartedFrom(
        sha256=start.sha256,
        is_known=start.origin == "run",
        is_counted=config.privacy.with_start,
        earlier=tuple(
            Promised(unit=each.unit, epsilon=each.epsilon, delta=each.delta)
            for each in start.earlier
        ),
        events=spent_before(config),
    )


def _trust(
    plan: PrivacyPlan, *, terms: SecureTerms | None, delta: float, sites: int
) -> SumTrust | None:
    """What a guarantee of trust ``sum`` rests on; None for one that holds by itself."""
    event = plan.event
    if not isinstance(event, DiscreteGaussianSum) or terms is None or event.num_shares == 1:
        return None  # one share is enough: nobody else is trusted
    alone = [
        dataclasses.replace(each, num_shares=1) if isinstance(each, DiscreteGaussianSum) else each
        for each in plan.counted
    ]
    return SumTrust(
        num_sites=sites,
        num_colluders=terms.num_colluders,
        num_shares=event.num_shares,
        # A bound that no second accountant confirms: of many steps it is beyond what PRV resolves.
        epsilon_alone=bound_of(alone, delta=delta),
        surplus=math.sqrt(terms.cohort_size / event.num_shares),
    )


def _condition(config: RunConfig, dealt: PartitionConfig | None) -> str:
    """The condition of the claim: facts about all images of a site that it takes as given."""
    if not config.privacy.is_dp_sgd:
        return ""
    fixed = []
    if dealt is not None and config.data.max_images is not None:
        fixed.append("choice of images")  # a part of a public set, taken by looking at all of it
    if config.data.split == "stratified":
        fixed += ["split", "partition"]
    elif dealt is not None and dealt.scheme != "iid":
        fixed.append("partition")
    if not fixed:
        return ""
    return "for a fixed " + " and ".join(filter(None, [", ".join(fixed[:-1]), fixed[-1]]))


def _warnings(config: RunConfig, plan: PrivacyPlan) -> tuple[str, ...]:
    found = []
    privacy = config.privacy
    if isinstance(plan.event, SkellamSum):
        sites = config.partition.num_sites
        ratio = plan.noise_multiplier * math.sqrt(plan.event.num_words) / sites
        if ratio > 1:
            found.append(
                f"few sites: the noise in the mean update is {ratio:.3g} times as long as the "
                "longest update a site may send; it can only average out over very many rounds"
            )
    if privacy.release_metrics:
        found.append(
            "privacy.release_metrics is on: sums of losses and numbers of images leave the sites "
            "without noise, outside the guarantee"
        )
    if plan.planned.value > 20:
        found.append(f"epsilon {plan.planned.value:.4g} promises next to nothing")
    return tuple(found)
