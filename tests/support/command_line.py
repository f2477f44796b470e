"""The command line in this process: what ``phoenix-secure`` prints and its exit code.

A process of its own costs seconds of imports. Tests start one only where it is the point: signals,
kills, start-up, another Python environment.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from phoenix_secure.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def phoenix(
    *arguments: object,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    typed: str = "",
) -> Outcome:
    """Run one command in ``cwd``: wide output, no colours; ``typed`` is its standard input."""
    out, err = io.StringIO(), io.StringIO()
    settings = {"COLUMNS": "300", "NO_COLOR": "1", **(environ or {})}
    sigterm = signal.getsignal(signal.SIGTERM)  # ``main`` takes it for itself
    try:
        with (
            contextlib.chdir(cwd or Path.cwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            patch.dict(os.environ, settings),
            patch.object(sys, "stdin", io.StringIO(typed)),
            patch.object(sys, "argv", ["phoenix-secure", *map(str, arguments)]),
        ):
            main()
    except SystemExit as left:
        return Outcome(code=int(left.code or 0), out=out.getvalue(), err=err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, sigterm)
    raise AssertionError("main() returned without an exit code")


def script(path: Path, *arguments: object) -> Outcome:
    """Run a program of this repository as ``python path`` would."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            patch.object(sys, "argv", [str(path), *map(str, arguments)]),
            patch.object(sys, "path", [str(path.parent), *sys.path]),
        ):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as left:
        code = left.code
    return Outcome(code=int(code or 0), out=out.getvalue(), err=err.getvalue())
