"""``--dry-run``: what a run would do, and how long it would take here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from phoenix_secure.cli.durations import duration
from phoenix_secure.cli.listing import print_table
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.config import EarlierGuarantee, RunConfig, StartConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.run.released_model import ddpm_settings
from phoenix_secure.federation.secagg.deployment_cost import Cost
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.secagg.stated_guarantee import guarantee_of
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.simulation.estimate import (
    aggregation_seconds,
    ddpm_seconds,
    evaluation_seconds,
    fit_seconds,
    refinement_seconds,
    seconds_per_step,
)
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.privacy.events import event_to_dict
from phoenix_secure.privacy.noise_length import noise_over_signal
from phoenix_secure.training.schedule import num_local_steps

__all__ = ["plan_of", "plan_of_all", "print_deployment_plan", "print_plan", "print_two_plans"]


def print_plan(sites: SimulatedSites, *, output_format: Format) -> None:
    """Parameters, bytes, steps and the time that a few measured steps promise."""
    plan = plan_of(sites)
    if output_format is Format.JSON:
        print_json(plan)
        return
    _print_table(plan, title="what this run would do")


def _print_table(plan: dict[str, Any], *, title: str) -> None:
    table = Table(title=title, show_header=False)
    for name, value in _flat(plan).items():
        table.add_row(
            name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
        )
    print_table(table)


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    """What a deployment would cost in one line for each exchange, and times as people say them."""
    found: dict[str, Any] = {}
    for name, value in plan.items():
        what = name.removesuffix("_seconds")
        is_time = what != name and name.startswith("estimated")
        found[what if is_time else name] = duration(value) if is_time else value
    advice = found.pop("between_machines")
    for name, cost in advice["costs"].items():
        found[f"between_machines, {name}"] = Cost(**cost).text
    found["recommended_exchange"] = f"{advice['recommended']}: {advice['why']}"
    return found


def print_two_plans(config: RunConfig, *, output_format: Format) -> None:
    """Of a release, and of the steps that follow for the rest of one epsilon."""
    plans = _two_plans(config)
    if output_format is Format.JSON:
        print_json(plans)
        return
    for name, plan in plans.items():
        _print_table(plan, title=f"what its {name} would do")


def plan_of_all(config: RunConfig) -> dict[str, Any]:
    """The plan of a run; of two phases, the steps' with the release's beside it and their times
    added up."""
    if not config.release.is_first_of_two:
        return plan_of(_sites(config))
    plans = _two_plans(config)
    total = sum(each["estimated_total_seconds"] for each in plans.values())
    return plans["steps"] | {"release": plans["release"], "estimated_total_seconds": total}


def _two_plans(config: RunConfig) -> dict[str, dict[str, Any]]:
    return {"release": plan_of(_sites(config.release_phase())), "steps": _steps_plan(config)}


def _steps_plan(config: RunConfig) -> dict[str, Any]:
    """The plan of the second phase, whose model is not there yet."""
    first = _sites(config.release_phase())
    assert first.privacy is not None  # noqa: S101 - a release has a plan
    events = tuple(json.dumps(event_to_dict(each)) for each in first.privacy.events())
    earlier = EarlierGuarantee(
        unit="record",
        epsilon=first.privacy.planned.value,
        delta=config.privacy.delta,
        events=events,
    )
    start = StartConfig(sha256="0" * 64, origin="run", earlier=(earlier,))
    counted = config.steps_phase("the release").with_split()
    model = counted.model.model_copy(update={"start": start})
    counted = counted.model_copy(update={"model": model})
    return plan_of(_sites(config.steps_phase(None)), counted=counted)


def _sites(config: RunConfig) -> SimulatedSites:
    return SimulatedSites(config, cache_dir=default_cache_dir())


def print_deployment_plan(sites: DeployedSites, *, output_format: Format) -> None:
    """The plan that owners will be asked to approve."""
    terms = sites.terms
    plan = {
        "federation": sites.plan.federation,
        "plan": sites.plan.hash,
        "sites": list(sites.sites),
        "parameters": sites.strategies.exchange.num_parameters,
        "rounds": sites.config.federation.rounds,
        "secure_aggregation": sites.config.secure_aggregation.mode,
        "model": _who_makes_the_model(is_computed=sites.rule is not None),
        "secure": None if terms is None else terms.record.to_dict(),
        "guarantee": sites.guarantee().text,
        "masked_bytes_per_site": None if terms is None else terms.masked_bytes,
        "between_machines": sites.strategies.advice().to_dict(),
    }
    if output_format is Format.JSON:
        print_json(plan)
        return
    for name, value in _flat(plan).items():
        console.print(f"{name.replace('_', ' '):<22} {value}", soft_wrap=True)


def plan_of(sites: SimulatedSites, *, counted: RunConfig | None = None) -> dict[str, Any]:
    """The plan as plain data.

    counted   the same settings with the start that their budget pays for, too
    """
    config = sites.config
    sizes = {name: len(part) for name, part in sites.partition.parts.items()}
    if sites.strategies.release is not None:
        return _release_plan(sites, sizes)
    steps = [num_local_steps(config.training, num_images=size) for size in sizes.values()]
    cohort = cohort_size(config)
    steps_per_round = round(sum(steps) * cohort / len(sizes))
    d = sites.strategies.exchange.num_parameters
    step_s = seconds_per_step(sites)
    evaluation_s = evaluation_seconds(sites, step_s=step_s)
    waves = steps_per_round / sites.num_workers
    rounds = config.federation.rounds
    training_s, aggregation_s = waves * step_s * rounds, aggregation_seconds(sites)
    refinement = _refinement(sites)
    down, up = _bytes_down(sites, cohort=cohort), _bytes_up(sites, cohort=cohort)
    return {
        "images": f"{sites.partition.image_set.name}, {sum(sizes.values())} for training",
        "sites": len(sizes),
        "images_per_site": f"{min(sizes.values())} to {max(sizes.values())}",
        "sites_per_round": cohort,
        "devices": ", ".join(str(device) for device in sites.devices),
        "sites_at_once": sites.num_workers,
        "parameters": d,
        "rounds": rounds,
        "local_steps_per_round": steps_per_round,
        "local_steps_per_site_and_round": _span(steps),
        "bytes_down_per_round": down,
        "model": _who_makes_the_model(is_computed=sites.rule is not None),
        "bytes_up_per_round": up,
        "bytes_in_all_rounds": rounds * (down + up),
        "seconds_per_local_step": round(step_s, 4),
        "estimated_training_seconds": round(training_s, 1),
        **refinement,
        **_evaluation(sites, seconds=evaluation_s),
        "estimated_total_seconds": round(
            training_s
            + rounds * aggregation_s
            + refinement.get("estimated_refinement_seconds", 0)
            + evaluation_s,
            1,
        ),
        **_guarantee(sites, counted=counted),
        "secure_aggregation": "off" if sites.terms is None else "on",
        **_aggregation(sites, seconds=aggregation_s),
        "between_machines": sites.strategies.advice().to_dict(),
    }


def _release_plan(sites: SimulatedSites, sizes: dict[str, int]) -> dict[str, Any]:
    """One round of sums, and the fit that follows it."""
    config, layout = sites.config, sites.strategies.release
    assert layout is not None  # noqa: S101 - the caller asked
    cohort, release = cohort_size(config), config.release
    fit_s, aggregation_s = fit_seconds(sites, layout), aggregation_seconds(sites)
    evaluation_s = evaluation_seconds(sites)
    ddpm_s = ddpm_seconds(sites) if release.then == "ddpm" else 0.0
    facts: dict[str, Any] = {
        "images": f"{sites.partition.image_set.name}, {sum(sizes.values())} to be summed once",
        "sites": len(sizes),
        "images_per_site": f"{min(sizes.values())} to {max(sizes.values())}",
        "rounds": 1,
        "features_of_a_class": layout.num_features,
        "classes": layout.num_classes,
        "words": layout.num_words,
        "bytes_down_per_round": 4 * layout.num_words * cohort,
        "bytes_up_per_round": _bytes_up(sites, cohort=cohort),
        "generator_steps": release.fit_steps,
        "estimated_fit_seconds": round(fit_s, 1),
        **_evaluation(sites, seconds=evaluation_s),
        "estimated_total_seconds": round(aggregation_s + fit_s + ddpm_s + evaluation_s, 1),
        **_guarantee(sites),
        "secure_aggregation": config.secure_aggregation.mode,
        **_aggregation(sites, seconds=aggregation_s),
        "between_machines": sites.strategies.advice().to_dict(),
    }
    if release.then == "ddpm":
        facts["ddpm_steps_on_generated_images"] = ddpm_settings(config).training.local_steps
        facts["estimated_ddpm_seconds"] = round(ddpm_s, 1)
    if max(sizes.values()) > release.max_images:
        facts["warning"] = (
            f"a site holds more than release.max_images = {release.max_images} images: its sums "
            "are cut off; raise it"
        )
    return facts


def _refinement(sites: SimulatedSites) -> dict[str, Any]:
    """The steps after the last round, where there are any."""
    steps = sites.config.sampling.refine_steps
    if steps == 0:
        return {}
    seconds = round(refinement_seconds(sites), 1)
    return {"generator_steps_at_the_end": steps, "estimated_refinement_seconds": seconds}


def _evaluation(sites: SimulatedSites, *, seconds: float) -> dict[str, Any]:
    """Of the samples at the end; nothing where it is off."""
    if sites.evaluator is None:
        return {}
    return {
        "images_evaluated": sites.evaluator.num_images,
        "estimated_evaluation_seconds": round(seconds, 1),
    }


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _guarantee(sites: SimulatedSites, *, counted: RunConfig | None = None) -> dict[str, Any]:
    """The guarantee in words, and what it was calibrated from."""
    if counted is None:
        guarantee = sites.guarantee().to_dict()
    else:
        terms, num_parameters = None, sites.strategies.exchange.num_uploaded
        if sites.terms is not None:
            terms = choose_terms(counted, num_parameters=num_parameters)
        privacy = plan_privacy(counted, terms=terms, num_parameters=num_parameters)
        guarantee = guarantee_of(counted, privacy, dealt=counted.partition, terms=terms).to_dict()
    config = sites.config
    facts: dict[str, Any] = {"guarantee": guarantee["text"]}
    if guarantee["unit"] == "none":
        return facts
    sizes = [len(part) for part in sites.partition.parts.values()]
    for name in ("epsilon", "delta", "noise_multiplier", "clip_norm", "sampling_rate", "steps"):
        if guarantee[name] is not None:
            facts[f"privacy_{name}"] = guarantee[name]
    facts["privacy_rounds_of_one_site"] = guarantee["releases"]
    facts |= {f"epsilon, {name}": round(value, 4) for name, value in guarantee["figures"].items()}
    replaced = guarantee["replace_one"]
    if replaced["epsilon"] is not None:
        facts["privacy_adjacency"] = guarantee["adjacency"]
        facts["privacy_epsilon_replace_one"] = replaced["epsilon"]
    facts |= {
        f"epsilon, replace one, {name}": round(value, 4)
        for name, value in replaced["figures"].items()
    }
    if guarantee["sampling_rate"] is not None:
        rate = guarantee["sampling_rate"]
        facts["images_drawn_per_step"] = (
            f"{rate * min(sizes):.3g} to {rate * max(sizes):.3g} expected, divided by "
            f"training.batch_size = {config.training.batch_size}"
        )
    if not config.release.is_on and guarantee["noise_multiplier"] is not None:
        ratio = _noise_beside_update(sites, guarantee, sizes=sizes)
        facts["noise_beside_the_longest_update"] = f"{ratio:.3g} times as long"
    for number, warning in enumerate(guarantee["warnings"], start=1):
        facts[f"privacy_warning_{number}"] = warning
    return facts


def _noise_beside_update(
    sites: SimulatedSites, guarantee: dict[str, Any], *, sizes: list[int]
) -> float:
    """Of one noised sum, at the largest site: below 1 a step can follow the images."""
    if guarantee["unit"] == "site":
        summed = float(cohort_size(sites.config))
    else:
        images = sum(sizes) if sites.config.privacy.trust == "sum" else max(sizes)
        summed = images * (guarantee["sampling_rate"] or 1.0)
    return noise_over_signal(
        noise_multiplier=guarantee["noise_multiplier"],
        num_parameters=sites.strategies.exchange.num_uploaded,
        num_summed=summed,
    )


def _who_makes_the_model(*, is_computed: bool) -> str:
    return "every site, from the sums" if is_computed else "the server, and sites believe it"


def _bytes_down(sites: SimulatedSites, *, cohort: int) -> int:
    """Where no site was away."""
    if sites.terms is None or sites.rule is None:
        return 4 * sites.strategies.exchange.num_parameters * cohort
    return sites.terms.masked_bytes * cohort


def _bytes_up(sites: SimulatedSites, *, cohort: int) -> int:
    if sites.terms is None:
        return 4 * sites.strategies.exchange.num_parameters * cohort
    return sites.terms.masked_bytes * cohort


def _aggregation(sites: SimulatedSites, *, seconds: float) -> dict[str, Any]:
    """The terms of secure aggregation, or what its absence means."""
    terms = sites.terms
    if terms is None:
        return {"warning": "the server will see every site's update: for research only"}
    assumption = terms.record.assumption
    return {
        "sites_that_must_stay": terms.threshold,
        "sites_that_may_collude_with_the_server": terms.num_colluders,
        "honest_sites_behind_every_sum_at_least": terms.num_honest,
        "sites_that_may_vanish": terms.cohort_size - terms.threshold,
        "word_bits": terms.word_bits,
        "steps_per_unit": round(terms.scale) if terms.scale >= 1 else terms.scale,
        "clip_norm": round(terms.clip_norm, 4),
        "clip_value": terms.clip_value,
        "max_images": terms.max_images,
        "estimated_aggregation_seconds_per_round": round(seconds, 3),
        **({} if assumption is None else {"assumption": assumption}),
    }
