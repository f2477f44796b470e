"""What an owner reads before signing a plan, the same whichever way the plan came.

The sheet shows every bound that the plan sets, also where it is the default, every setting that is
not the default, and every objection of the site's policy. Values are shown as ASCII JSON: no text
in a plan can hide another on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.round.small_consortium import (
    assumes_no_colluders,
    no_colluders_in_words,
)
from phoenix_secure.federation.round.sparse_graph import SparseGraph
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.thresholds import choose_threshold
from phoenix_secure.federation.site.policy import SitePolicy
from protocol.parameters import MIN_HONEST
from protocol.regular_graph import RegularGraph

__all__ = ["PlanSheet", "lines_of", "one_line"]

# Settings that bound what a site gives away or does, shown whatever their value.
_BOUNDS = (
    "federation.rounds",
    "federation.participation",
    "federation.min_sites",
    "federation.deadline_s",
    "training.local_steps",
    "training.local_epochs",
    "training.batch_size",
    "secure_aggregation.collusion",
    "secure_aggregation.dropout",
    "secure_aggregation.word_bits",
    "secure_aggregation.clip_norm",
    "secure_aggregation.clip_value",
    "secure_aggregation.max_images",
    "secure_aggregation.max_attempts",
)
_PRIVACY_BOUNDS = (
    "privacy.epsilon",
    "privacy.delta",
    "privacy.noise_multiplier",
    "privacy.clip_norm",
    "privacy.sampling_rate",
    "privacy.release_metrics",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSheet:
    """One plan in plain values.

    bounds        what limits the site's part, derived or set
    changed       every setting that is not the default, under its dotted name
    objections    what the site's policy has against the plan
    """

    plan: Plan
    policy: SitePolicy
    bounds: dict[str, Any]
    changed: dict[str, Any]
    objections: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, *, policy: SitePolicy) -> PlanSheet:
        """The sheet of ``plan`` at a site with ``policy``."""
        against = policy.objection(plan), policy.model_objection(plan.config)
        return cls(
            plan=plan,
            policy=policy,
            bounds=_bounds(plan.config),
            changed=_changed_settings(plan.config),
            objections=tuple(f"policy: {each}" for each in against if each is not None),
        )

    def facts(self) -> dict[str, Any]:
        """For machines, and for ``lines``."""
        plan, config = self.plan, self.plan.config
        return {
            "plan": plan.hash,
            "federation": plan.federation,
            "roster_sha256": plan.roster_hash,
            "bundle_sha256": plan.bundle_hash,
            "differential_privacy": _privacy_in_words(config),
            "secure_aggregation": _aggregation_in_words(config),
            "models": _models_in_words(config),
            **_audit_in_words(config),
            "images": f"{config.data.image_size} pixels, {config.data.channels} channels",
            "bounds": self.bounds,
            "policy": self.policy.model_dump(mode="json"),
            "settings_changed": self.changed,
            "objections": list(self.objections),
        }

    def lines(self) -> list[str]:
        """For people."""
        return lines_of(self.facts())


def lines_of(facts: dict[str, Any]) -> list[str]:
    """``PlanSheet.facts``, and whatever was added to them, as lines of text."""
    nested = {
        "bounds": "bounds",
        "policy": "the limits of this site's policy",
        "settings_changed": "settings that are not the default",
    }
    found = []
    for name, value in facts.items():
        if name == "objections" or name in nested:
            continue
        found.append(f"{name.replace('_', ' '):<22} {one_line(value)}")
    for name, title in nested.items():
        if name in facts:
            found.append(f"{title}:")
            found += [f"  {key} = {_json(value)}" for key, value in facts[name].items()]
    found += [f"AGAINST IT: {one_line(objection)}" for objection in facts.get("objections", ())]
    return found


def _aggregation_in_words(config: RunConfig) -> str:
    secure = config.secure_aggregation
    if secure.mode == "off":
        return "OFF: the server sees this site's own update"
    if assumes_no_colluders(config):
        return f"on; {no_colluders_in_words(MIN_HONEST)}"
    if secure.graph == "regular":
        return f"on; {_graph_in_words(config)}"
    return f"on; up to {secure.collusion:.0%} of the sites may work with the server"


def _graph_in_words(config: RunConfig) -> str:
    """What sums on the k-regular graph rest on; nothing is summed where there is none."""
    try:
        graph = choose_threshold(config, cohort=cohort_size(config))
    except ConfigError as error:
        return f"no such round is possible: {error}"
    if not isinstance(graph, RegularGraph):
        raise AssertionError("the complete graph is chosen where it is asked for alone")
    return SparseGraph.of(graph).in_words(
        n=graph.num_clients, t=graph.quorum, c=graph.num_colluders
    )


def _models_in_words(config: RunConfig) -> str:
    """Where the model of each round comes from."""
    if config.release.is_on:
        return "none is trained: one sum of features of the images"
    secure, sharing = config.secure_aggregation, config.sharing
    if secure.mode == "on" and secure.broadcast == "sum":
        return "computed by this site from the sums; no other one is trained"
    words = "SENT BY THE SERVER: this site cannot tell which it trains on"
    if sharing.source != "none" and sharing.warmup_steps > 0:
        words += (
            "; the first one, of the warm-up on shared images (sharing.warmup_steps), follows bit "
            "for bit only on the server's kind of processor"
        )
    return words


def _audit_in_words(config: RunConfig) -> dict[str, str]:
    """What leaves beside updates, where the plan has a pooled audit."""
    if not config.audit.at_sites:
        return {}
    most = config.audit.max_images
    return {
        "audit at the sites": f"up to {most} of this site's members and {most} held-out images: "
        "their histograms of scores, and sums of features, enter a secure sum WITHOUT NOISE"
    }


def _privacy_in_words(config: RunConfig) -> str:
    """The differential privacy that the plan states, with its unit beside it."""
    privacy = config.privacy
    if privacy.unit == "none":
        return "NONE: the model may remember single images"
    unit = {
        "record": "one image of one site",
        "group": "all images of one person of one site",
        "site": "all images of one site",
    }[privacy.unit]
    amount = (
        f"noise multiplier {privacy.noise_multiplier:g}, epsilon not stated"
        if privacy.epsilon is None
        else f"epsilon {privacy.epsilon:g}"
    )
    words = f"{amount}, delta {privacy.delta:g}; unit {privacy.unit}: {unit}"
    if privacy.trust == "sum":
        words += "; NOISE OF ALL SITES TOGETHER: holds while few of them work with the server"
    if privacy.with_start:
        words += "; what the runs behind model.init_from spent is counted in, as the plan states it"
    if privacy.noise_source != "secure":
        words += "; NOISE FROM A SEED: no guarantee against whoever knows it"
    if privacy.release_metrics:
        words += "; sums of losses and image counts leave outside the guarantee"
    if config.audit.at_sites:
        words += "; the pooled audit's sums leave outside the guarantee"
    return words


def _changed_settings(config: RunConfig) -> dict[str, Any]:
    """Every setting that is not the default, under its dotted name; None where one is left out."""
    defaults = dict(_flat(RunConfig().model_dump(mode="json")))
    settings = dict(_flat(config.model_dump(mode="json")))
    return {
        name: settings.get(name)
        for name in dict.fromkeys([*settings, *defaults])
        if settings.get(name) != defaults.get(name)
    }


def _bounds(config: RunConfig) -> dict[str, Any]:
    settings = dict(_flat(config.model_dump(mode="json")))
    names = _BOUNDS if config.privacy.unit == "none" else (*_BOUNDS, *_PRIVACY_BOUNDS)
    bounds = {**_hiding(config), **{name: settings.get(name) for name in names}}
    if config.privacy.unit == "group":  # unwritten among the settings where it is the default
        bounds["privacy.images_per_group"] = config.privacy.images_per_group
    return bounds


def _hiding(config: RunConfig) -> dict[str, Any]:
    """How many sites each sum is over, worst case; as ``choose_terms`` counts them."""
    sites, cohort = config.partition.num_sites, cohort_size(config)
    counts: dict[str, Any] = {"sites": sites, "sites asked in a round": cohort}
    settings, honest = config.secure_aggregation, "honest sites behind every sum, at least"
    if settings.mode == "off":
        return counts | {honest: 0}
    try:
        graph = choose_threshold(config, cohort=cohort)
    except ConfigError as error:
        return counts | {honest: f"no such round is possible: {error}"}
    return counts | {
        "sites that may work with the server": graph.num_colluders,
        "sites in every sum, at least": graph.quorum,
        honest: graph.quorum - graph.num_colluders,
    }


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield prefix + name, each


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def one_line(value: Any) -> str:
    """``value`` as one line of ASCII: a text as it is, where nothing in it needs an escape."""
    text = value if isinstance(value, str) else _json(value)
    return text if text.isascii() and text.isprintable() else _json(text)
