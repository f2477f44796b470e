"""A table where it fits on the terminal, and a record for each row where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from phoenix_secure.cli.output import console

__all__ = ["print_listing"]

_UNBOUNDED = 10**6  # columns: what a table would take if it could


def print_listing(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> None:
    """Print ``rows`` under ``columns``; the first column and those in ``left`` are words, the
    others numbers.

    Guarantee:  no cell is cut, and none is broken by us: a number over two lines is another number.
    """
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(columns):
        is_words = number == 0 or column in left
        table.add_column(column, justify="left" if is_words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    unbounded = console.options.update(max_width=_UNBOUNDED)
    if console.measure(table, options=unbounded).minimum <= console.width:
        console.print(table)
        return
    for first, *rest in rows:
        console.print(first, markup=False, soft_wrap=True, style="bold")
        for column, cell in zip(columns[1:], rest, strict=True):
            if cell:
                console.print(f"  {column}: {cell}", markup=False, soft_wrap=True)
