"""Options of the commands that set up a federation: its name, its keys, where its parties meet."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["HostOption", "NameOption", "PortOption", "SuiteName", "SuiteOption", "ViaOption"]

NameOption = Annotated[
    str | None, typer.Option("--name", help="Federation's name; default: the folder's.")
]
HostOption = Annotated[
    str, typer.Option("--host", help="Name or address under which sites reach the server.")
]
PortOption = Annotated[int, typer.Option("--port", help="Port of the Fleet proxy.")]
ViaOption = Annotated[
    str | None,
    typer.Option(
        "--via", help="folder:PATH, a folder that messages travel in, in place of the network."
    ),
]


class SuiteName(StrEnum):
    """The suites of ``protocol.suite``, as the command line has them."""

    CLASSICAL = "classical"
    HYBRID_PQ = "hybrid_pq"


SuiteOption = Annotated[
    SuiteName,
    typer.Option(
        "--suite",
        help="Keys and signatures: classical, or hybrid_pq against later quantum computers.",
    ),
]
