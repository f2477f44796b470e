"""The work behind ``sweep status``: apart from ``sweeping``, which loads what trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from phoenix_secure.cli.listing import print_listing
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.experiments.progress import PointState, PointStatus, sweep_status

__all__ = ["status"]


def status(folder: Path, *, output_format: Format) -> None:
    """Print how far the sweep in ``folder`` has got."""
    found = sweep_status(folder)
    counts = {state.value: found.count(state) for state in PointState}
    if output_format is Format.JSON:
        print_json(
            {
                "counts": counts,
                "seconds_left_of_one_worker": found.seconds_left,
                "points": [dataclasses.asdict(each) for each in found.points],
                "dropped": list(found.dropped),
            }
        )
        return
    rows = []
    for each in found.points:
        rounds = "-" if each.rounds is None else f"{each.rounds[0]} of {each.rounds[1]}"
        seconds = "-" if each.seconds is None else f"{each.seconds:,.0f}"
        rows.append([each.point, each.state.value, rounds, seconds, _to_know(each)])
    titles = ("point", "state", "round", "seconds", "to know")
    print_listing(titles, rows, left=("state", "to know"))
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    left = found.seconds_left
    more = f"; about {left / 60:,.0f} minutes of one worker left" if left else ""
    console.print(f"{len(found.points)} points: {shown}{more}", soft_wrap=True)
    for name in found.dropped:
        console.print(
            f"points/{name} is of a point that the sweep no longer names; what it spent is spent",
            markup=False,
            soft_wrap=True,
        )


def _to_know(each: PointStatus) -> str:
    if each.reason:
        return each.reason
    if each.state is PointState.UNFINISHED:
        silent = "" if each.silent_s is None else f", silent for {each.silent_s / 60:,.1f} minutes"
        return f"to do: {', '.join(each.steps) or 'nothing but its result'}{silent}"
    return ""
