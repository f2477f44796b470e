"""The work behind ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.progress import Progress

from phoenix_secure.api import quality
from phoenix_secure.cli.listing import print_table
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.cli.tables import quality_table
from phoenix_secure.files import write_bytes

__all__ = ["evaluate"]


def evaluate(
    target: Path, *, num_images: int, out: Path | None, output_format: Format, **options: Any
) -> None:
    """Evaluate with the options of ``api.quality.evaluate``, and print the table."""
    quiet = output_format is Format.JSON or not console.is_terminal
    with Progress(console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task("sampling", total=num_images)
        found = quality.evaluate(
            target,
            num_images=num_images,
            progress=lambda count: bar.advance(task, count),
            **options,
        )
    table = found.to_dict()
    if out is not None:
        write_bytes(out, (json.dumps(table, indent=2, sort_keys=True) + "\n").encode())
    if output_format is Format.JSON:
        print_json(table)
    else:
        print_table(quality_table(table))
