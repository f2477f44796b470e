"""A federation between machines, as near as one machine gets: the ceremony, and faults on the way.

    sudo python benchmarks/hosts.py                    # the ceremony: a table of seconds
    sudo python benchmarks/hosts.py --faults           # what doctor and a site say to each fault
    sudo python benchmarks/hosts.py --lines            # rounds over slow and lossy lines, IPv6
    sudo python benchmarks/hosts.py --json --keep DIR  # file roots and logs stay in DIR

Every party has a network namespace with addresses of its own, a firewall, a user and a file root
(mode 700), and types commands of `phoenix-secure`, one after another. What goes between them goes
through the network, or is carried as a file where docs/deployment.md says so. Afterwards every
file of every party is searched for the secret keys of the others. Users, namespaces and mounts are
made in namespaces of this program, and end with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hosts_ceremony import Ceremony
from hosts_faults import Faults
from hosts_lines import Lines
from hosts_namespaces import reason_against, run_inside
from hosts_parties import Parties
from hosts_steps import Steps


def table(rows: Sequence[Any]) -> str:
    """Rows of one kind as Markdown; numbers stand on the right."""
    names = [field.name for field in dataclasses.fields(rows[0])]
    values = [[getattr(row, name) for name in names] for row in rows]
    marks = ["---:" if isinstance(value, float) else "---" for value in values[0]]
    lines = [names, marks, *([_cell(value) for value in row] for row in values)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|") or "-"


def say(text: str) -> None:
    """One line for whoever waits; results go to standard output."""
    print(text, file=sys.stderr, flush=True)


def inside(given: argparse.Namespace) -> None:
    """The work, in the namespaces."""
    started = time.monotonic()
    parties, steps = Parties(given.inside), Steps(say)
    for note in parties.notes:
        say(f"note: {note}")
    ceremony = Ceremony(parties, steps)
    tried, lines = Faults(ceremony, only=given.only), Lines(ceremony, only=given.only)
    tables: dict[str, Sequence[Any]] = {"faults": tried.rows, "lines": lines.rows}
    try:
        if given.faults or given.lines:
            ceremony.make_and_serve()
            for part in [tried] * given.faults + [lines] * given.lines:
                part.run()
        else:
            tables = {"steps": steps.rows}
            ceremony.run()
    finally:
        ceremony.federation.close()
    facts = {
        "carried": len(parties.carried),
        "notes": parties.notes,
        "seconds": round(time.monotonic() - started, 1),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 1),
    }
    if given.json:
        rows = {name: [dataclasses.asdict(row) for row in found] for name, found in tables.items()}
        print(json.dumps(rows | facts, indent=1))
        return
    for found in filter(None, tables.values()):
        print(table(found) + "\n")
    print(
        f"{facts['seconds']} s in all, {facts['carried']} files and folders carried, "
        f"{facts['cores']} cores, load average {facts['load_average_1min']}"
    )


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--faults", action="store_true", help="faults in place of the ceremony")
    parser.add_argument("--lines", action="store_true", help="rounds over slow and lossy lines")
    parser.add_argument("--only", default="", help="faults and lines whose name holds this")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", type=Path, help="new folder for file roots and logs")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        inside(given)
        return
    if (reason := reason_against()) is not None:
        parser.exit(2, f"error: {reason}\n")
    passed = [f"--{name}" for name in ("faults", "lines", "json") if getattr(given, name)]
    passed += ["--only", given.only] if given.only else []
    sys.exit(run_inside(Path(__file__), passed, keep=given.keep))


if __name__ == "__main__":
    main()
