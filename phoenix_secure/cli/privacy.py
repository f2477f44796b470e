"""``phoenix-secure privacy``: how much noise a budget needs, what a ledger has spent."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.overlap import hash_images, overlap
from phoenix_secure.errors import ConfigError

if TYPE_CHECKING:
    from phoenix_secure.privacy.ledger import PrivacyLedger

__all__ = ["app"]

app = typer.Typer(
    help="Noise for a budget, epsilon of a noise, what was spent, images at two sites.",
    no_args_is_help=True,
)
app.command("hash")(hash_images)
app.command()(overlap)

Delta = Annotated[float, typer.Option("--delta", help="Probability part; below 1 / images.")]
Rate = Annotated[
    float, typer.Option("--rate", help="Each image's chance to enter a step (q), up to 1.")
]
_ADJACENCY = "add or remove one image, one person, or one whole site"
Steps = Annotated[int, typer.Option("--steps", help="Noised steps: local steps x rounds.")]


@app.command()
def noise(
    epsilon: Annotated[float, typer.Option("--epsilon", help="The budget over all steps.")],
    rate: Rate,
    steps: Steps,
    delta: Delta = 1e-5,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """The least noise multiplier with which DP-SGD stays within a budget (per image)."""
    from phoenix_secure.privacy.calibration import noise_multiplier_for

    _check(epsilon=epsilon, rate=rate, steps=steps, delta=delta)
    found = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)
    _show(found, rate=rate, steps=steps, delta=delta, output_format=output_format)


@app.command()
def epsilon(
    noise_multiplier: Annotated[
        float, typer.Option("--noise", help="Noise multiplier: its deviation in clip norms.")
    ],
    rate: Rate,
    steps: Steps,
    delta: Delta = 1e-5,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show the epsilon of DP-SGD with this noise (per image), by every accountant."""
    _check(noise=noise_multiplier, rate=rate, steps=steps, delta=delta)
    _show(noise_multiplier, rate=rate, steps=steps, delta=delta, output_format=output_format)


@app.command()
def ledger(
    file: Annotated[
        Path, typer.Argument(help="A site's privacy.jsonl, or the folder of a site or a run.")
    ],
    delta: Delta = 1e-5,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show the privacy spent by sites according to their own ledgers, per run and in total."""
    from phoenix_secure.privacy.ledger import PrivacyLedger

    _check(delta=delta)
    files = [file] if file.is_file() else sorted(file.rglob("privacy.jsonl"))
    if not files:
        raise ConfigError(f"{file} holds no privacy.jsonl: was the run without privacy.unit?")
    rows = [
        row for path in files for row in _rows(path.parent.name, PrivacyLedger(path), delta=delta)
    ]
    if output_format is Format.JSON:
        print_json({"delta": delta, "adjacency": _ADJACENCY, "ledgers": rows})
        return
    table = Table(title=f"spent, at delta = {delta:g} ({_ADJACENCY})")
    for column in ("site", "run", "unit", "releases", "epsilon", "where one is replaced"):
        is_text = column in ("site", "run", "unit")
        table.add_column(column, justify="left" if is_text else "right")
    for row in rows:
        figures = (row["releases"], row["epsilon"], row["epsilon_replace_one"])
        table.add_row(
            row["site"], row["run"][:16], row["unit"], *(f"{figure:.4g}" for figure in figures)
        )
    console.print(table)


def _rows(site: str, found: PrivacyLedger, *, delta: float) -> list[dict[str, Any]]:
    from phoenix_secure.privacy.accounting import epsilon_of
    from phoenix_secure.privacy.events import Adjacency, Event, unit_of

    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for release in found.releases():
        unit = unit_of(release.event)
        groups[release.plan, unit].append(release.event)
        groups["all runs", unit].append(release.event)
    runs = {run for run, _ in groups} - {"all runs"}
    return [
        {
            "site": site,
            "run": run,
            "unit": unit,
            "releases": len(events),
            "epsilon": epsilon_of(events, delta=delta).value,
            "epsilon_replace_one": epsilon_of(
                events, delta=delta, adjacency=Adjacency.REPLACE_ONE
            ).value,
        }
        for (run, unit), events in sorted(groups.items())
        if run != "all runs" or len(runs) > 1
    ]


def _show(
    noise_multiplier: float, *, rate: float, steps: int, delta: float, output_format: Format
) -> None:
    from phoenix_secure.privacy.accounting import epsilon_of
    from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian

    event = PoissonSampledGaussian(
        sampling_rate=rate, noise_multiplier=noise_multiplier, steps=steps
    )
    spent = epsilon_of([event], delta=delta)
    replaced = epsilon_of([event], delta=delta, adjacency=Adjacency.REPLACE_ONE)
    facts = {
        "noise_multiplier": noise_multiplier,
        "epsilon": spent.value,
        "delta": delta,
        "unit": "record",
        "adjacency": "add or remove one image",
        "sampling_rate": rate,
        "steps": steps,
        "figures": spent.figures,
        "replace_one": {
            "adjacency": "replace one image by another",
            "epsilon": replaced.value,
            "figures": replaced.figures,
        },
    }
    if output_format is Format.JSON:
        print_json(facts)
        return
    console.print(
        f"noise multiplier {noise_multiplier:.4f}: ({spent.value:.4g}, {delta:g})-differential "
        f"privacy per image (add or remove one), epsilon {replaced.value:.4g} where one is "
        f"replaced; {steps} steps at Poisson rate {rate:g}",
        soft_wrap=True,
    )
    for title, found in (("add or remove one", spent), ("replace one", replaced)):
        for name, value in found.figures.items():
            console.print(f"  {title:<18} {name:<24} epsilon {value:.4f}")


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What an option may be, and the fix for less and for more."""

    low: float
    high: float
    expected: str
    raise_it: str
    lower_it: str


def _bounds() -> dict[str, _Bounds]:
    """Of each option, by its name: what the settings of a run keep to as well."""
    from phoenix_secure.privacy.budget import LARGEST_DELTA, LEAST_DELTA
    from phoenix_secure.privacy.calibration import LARGEST_EPSILON, LEAST_RATE

    return {
        "epsilon": _Bounds(
            5e-324,
            LARGEST_EPSILON,
            f"0 < epsilon <= {LARGEST_EPSILON:g}",
            "raise it; 1 to 10 is usual",
            "lower it: more promises nothing",
        ),
        "delta": _Bounds(
            LEAST_DELTA,
            math.nextafter(LARGEST_DELTA, 0.0),
            f"{LEAST_DELTA:g} <= delta < {LARGEST_DELTA:g}",
            "raise it, to 1/images^2 or so: accountants resolve no smaller one",
            "lower it, to 1e-5 or less: one in so many images could be fully disclosed",
        ),
        "rate": _Bounds(
            LEAST_RATE,
            1.0,
            f"{LEAST_RATE:g} <= rate <= 1",
            "raise it, to training.batch_size/images or so",
            "lower it: at 1 every image is in every step",
        ),
        "steps": _Bounds(
            1, 1e12, "1 <= steps <= 1e12", "set local steps x rounds", "set local steps x rounds"
        ),
        "noise": _Bounds(
            1e-3, 1e9, "0.001 <= noise <= 1e9", "raise it: less hides nothing", "lower it"
        ),
    }


def _check(**values: float) -> None:
    """Refuse numbers that mean nothing, by the name of their option.

    Raises:     ConfigError with the bounds and the fix.
    """
    bounds = _bounds()
    for name, value in values.items():
        of = bounds[name]
        if not of.low <= value <= of.high:  # also refuses NaN
            fix = of.lower_it if value > of.high else of.raise_it
            raise ConfigError(f"--{name} {value:g}: expected {of.expected}: {fix}")
