"""The work behind ``report clauses``."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.compliance.clause_map import load_clause_map
from phoenix_secure.compliance.clause_table import COLUMNS, clause_table
from phoenix_secure.compliance.schema import Profile
from phoenix_secure.experiments.exports import save_table

__all__ = ["show"]


def show(profiles: tuple[Profile, ...], *, table: Path | None, output_format: Format) -> int:
    """Print the clause map of today, and what nobody could look up."""
    clauses, rows = load_clause_map(), clause_table(profiles=profiles)
    if table is not None:
        save_table(COLUMNS, [each.cells() for each in rows], table)
    if output_format is Format.JSON:
        print_json(
            {
                "version": clauses.version,
                "rows": [
                    dataclasses.asdict(each) | {"looked_up": str(each.looked_up)} for each in rows
                ],
                "not_looked_up": list(clauses.left_out),
            }
        )
        return 0
    for (field, title), group in itertools.groupby(rows, lambda row: (row.field, row.title)):
        console.print(f"{field}  {title}", style="bold", soft_wrap=True)
        for each in group:
            console.print(f"    {each.clause}: {each.subject}", soft_wrap=True)
            console.print(
                f"        {each.reason} [{each.looked_up}, {each.source}]",
                style="dim",
                soft_wrap=True,
            )
    console.print(f"clause map {clauses.version}", style="bold")
    for text in clauses.left_out:
        console.print(f"not looked up, asks for nothing: {text}", soft_wrap=True)
    return 0
