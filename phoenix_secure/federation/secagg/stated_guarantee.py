"""The guarantee that follows from a run's settings and its plan of noise, stated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from phoenix_secure.config import PartitionConfig, PrivacyConfig, RunConfig
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.secagg.spent_before import spent_before
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.privacy.accounting import bound_of, epsilon_of
from phoenix_secure.privacy.events import (
    Adjacency,
    DiscreteGaussianSum,
    Event,
    PoissonSampledGaussian,
    SkellamSum,
)
from phoenix_secure.privacy.guarantee import (
    NO_GUARANTEE,
    Guarantee,
    Promised,
    StartedFrom,
    SumTrust,
)

__all__ = ["guarantee_of"]

# The way from random bytes to noise.
_SAMPLERS = {
    PoissonSampledGaussian: "",
    DiscreteGaussianSum: ", by exact rejection",
    SkellamSum: ", by table inversion",
}


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
    shared = privacy.trust == "sum"
    whose = "of all sites inside secure aggregation" if shared else "at each site"
    of_persons = " of persons" if privacy.unit == "group" else ""
    if isinstance(event, SkellamSum):
        steps, rate = plan.max_releases, None
        mechanism = "Skellam noise of all sites inside secure aggregation, each update clipped"
        if privacy.adaptive_clip:
            mechanism += (
                f" to a norm that follows a noised count ({privacy.clip_budget:.3g} of the squared "
                "sensitivity)"
            )
        if terms is not None and terms.num_colluders == 0:
            mechanism += ", as long as no site works with the server or with another site"
        sampler = "none: every draw of a cohort counts in full"
    elif isinstance(event, DiscreteGaussianSum) and config.release.is_on:
        steps, rate = event.steps, None
        mechanism = f"one release of class-wise sums of features, discrete Gaussian noise {whose}"
        if privacy.unit == "group":
            mechanism += ", each person's sum clipped"
        sampler = f"none: every {one} enters once"
    elif isinstance(event, DiscreteGaussianSum):
        steps, rate = plan.max_releases * event.steps, event.sampling_rate
        mechanism = (
            f"DP-SGD on sums of per-{one} clipped gradients, discrete Gaussian noise "
            f"{whose}{_images_of(privacy)}"
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
    if config.audit.at_sites:
        found.append(
            "audit.at_sites is on: pooled histograms of scores and sums of features leave the "
            "sites without noise, outside the guarantee"
        )
    if plan.planned.value > 20:
        found.append(f"epsilon {plan.planned.value:.4g} promises next to nothing")
    return tuple(found)
