"""A table where it fits on the terminal, and a record for each row where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from phoenix_secure.cli.output import console

__all__ = ["print_listing", "print_table"]

_UNBOUNDED = 10**6  # columns: what a table would take if it could


def print_listing(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> None:
    """Print ``rows`` under ``columns``; the first column and those in ``left`` are words, the
    others numbers.

    """
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(columns):
        is_words = number == 0 or column in left
        table.add_column(column, justify="left" if is_words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_table(table)


def print_table(table: Table) -> None:
    """Print ``table``, or where the terminal is too narrow a record for each of its rows.

    Guarantee:  no number is cut or broken by us: half of one over two lines is another number.
    """
    unbounded = console.options.update(max_width=_UNBOUNDED)
    if console.measure(table, options=unbounded).minimum <= console.width:
        console.print(table)
        return
    if table.title is not None:
        console.print(table.title, style="italic", soft_wrap=True)
    for first, *rest in zip(*(column.cells for column in table.columns), strict=True):
        console.print(first, soft_wrap=True, style="bold")
        for column, cell in zip(table.columns[1:], rest, strict=True):
            if str(cell):
                head = f"{column.header}: " if str(column.header) else ""
                console.print(f"  {head}{cell}", soft_wrap=True)
    if table.caption is not None:
        console.print(table.caption, style="italic", soft_wrap=True)
