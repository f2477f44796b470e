"""``--dry-run``: what a run would do, and how long it would take here."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.federation.embedded import EmbeddedFederation
from phoenix_secure.training.schedule import num_local_steps

__all__ = ["print_plan"]


def print_plan(federation: EmbeddedFederation, *, output_format: Format) -> None:
    """Parameters, bytes, steps and the time that a few measured steps promise."""
    plan = _plan(federation)
    if output_format is Format.JSON:
        print_json(plan)
        return
    table = Table(title="what this run would do", show_header=False)
    for name, value in plan.items():
        table.add_row(
            name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
        )
    console.print(table)


def _plan(federation: EmbeddedFederation) -> dict[str, Any]:
    config = federation.config
    sizes = {name: len(part) for name, part in federation.holdings.parts.items()}
    steps = [num_local_steps(config.training, num_images=size) for size in sizes.values()]
    cohort = max(1, round(config.federation.participation * len(sizes)))
    steps_per_round = round(sum(steps) * cohort / len(sizes))
    d = federation.model.initial_parameters.size
    step_s = federation.seconds_per_step()
    waves = steps_per_round / federation.num_workers
    return {
        "images": f"{federation.holdings.image_set.name}, {sum(sizes.values())} for training",
        "sites": len(sizes),
        "images_per_site": f"{min(sizes.values())} to {max(sizes.values())}",
        "sites_per_round": cohort,
        "devices": ", ".join(str(device) for device in federation.devices),
        "sites_at_once": federation.num_workers,
        "parameters": d,
        "rounds": config.federation.rounds,
        "local_steps_per_round": steps_per_round,
        "bytes_down_per_round": 4 * d * cohort,
        "bytes_up_per_round": 4 * d * cohort,
        "seconds_per_local_step": round(step_s, 4),
        "estimated_training_seconds": round(waves * step_s * config.federation.rounds, 1),
        "secure_aggregation": "off",
        "differential_privacy": "off",
    }
