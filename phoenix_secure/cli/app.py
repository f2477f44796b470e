"""The top of the command line: sub-commands, errors on one line, exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import signal
import sys
from types import FrameType

import click
import typer
from rich.console import Console

from phoenix_secure.cli import benchmark as benchmark_commands
from phoenix_secure.cli import config as config_commands
from phoenix_secure.cli import data as data_commands
from phoenix_secure.cli import deploy as deploy_commands
from phoenix_secure.cli import marks as marks_commands
from phoenix_secure.cli import models as models_commands
from phoenix_secure.cli import privacy as privacy_commands
from phoenix_secure.cli import report as report_commands
from phoenix_secure.cli import runs as runs_commands
from phoenix_secure.cli import server as server_commands
from phoenix_secure.cli import site as site_commands
from phoenix_secure.cli import sweep as sweep_commands
from phoenix_secure.cli.audit import audit
from phoenix_secure.cli.doctor import doctor
from phoenix_secure.cli.evaluate import evaluate
from phoenix_secure.cli.home import read_home
from phoenix_secure.cli.mistaken import answer_to
from phoenix_secure.cli.reading import told_on_terminal
from phoenix_secure.cli.run import resume, run
from phoenix_secure.cli.sample import sample
from phoenix_secure.cli.verify import verify
from phoenix_secure.errors import ConfigError, PhoenixError, StorageError
from phoenix_secure.memory import keep_freed_memory
from phoenix_secure.printed_text import without_controls

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 done, 1 unexpected, 2 settings or usage, 10 data, 11 checkpoint or model, "
    "12 storage, 13 training, 14 accountants disagree, 15 privacy budget spent, 130 interrupted."
)

_LONGEST = 1500  # characters of a message

app = typer.Typer(
    help="Train one diffusion model over several data owners who never show their images.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command()(resume)
app.command()(sample)
app.command()(evaluate)
app.command()(audit)
app.command()(verify)
app.command()(sweep_commands.downstream)
app.command()(runs_commands.compare)
app.add_typer(data_commands.app, name="data")
app.add_typer(config_commands.app, name="config")
app.add_typer(deploy_commands.app, name="deploy")
app.add_typer(models_commands.app, name="models")
app.add_typer(report_commands.app, name="report")
app.add_typer(runs_commands.app, name="runs")
app.add_typer(server_commands.app, name="server")
app.add_typer(site_commands.app, name="site")
app.add_typer(privacy_commands.app, name="privacy")
app.add_typer(marks_commands.app, name="marks")
app.add_typer(sweep_commands.app, name="sweep")
app.add_typer(benchmark_commands.app, name="benchmark")
app.command()(doctor)


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of folders and classes come in every script; a terminal may know one.
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A batch system that stops us is told from a crash, and leaves as tidily as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    keep_freed_memory()
    sys.exit(_written())


def _run() -> int:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with told_on_terminal():
            result = read_home(typer.main.get_command(app))(standalone_mode=False)
    except PhoenixError as error:
        errors.print(f"error: {_one_line(str(error))}", style="red", markup=False)
        return error.exit_code
    except click.ClickException as error:
        answer = None
        if isinstance(error, click.UsageError):
            answer = answer_to(error, arguments=sys.argv[1:])
        if answer is not None and isinstance(error, click.NoSuchOption):
            # Without its guess: an option that is spelt alike is not what was meant.
            error = click.NoSuchOption(error.option_name, ctx=error.ctx)
        error.show()
        if answer is not None:
            errors.print(without_controls(answer), markup=False)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        errors.print("interrupted", style="yellow")
        return 130
    return result if isinstance(result, int) else 0


def _written() -> int:
    """Run, and wait until all output is out: at Python's own end an error would be a traceback."""
    try:
        code = _run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return code


def _unwritten(error: OSError) -> int:
    """The exit code for output that could not be written; any other error goes on its way."""
    if error.errno == errno.ENAMETOOLONG:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return ConfigError.exit_code
    is_output = error.filename is None
    if not (error.errno in (errno.ENOSPC, errno.EDQUOT) or (is_output and _is_closed(error))):
        raise error
    if is_output:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        # The reader of our output has left (`| head`): nothing is wrong, nobody listens.
        sys.stderr.close()
        return 0
    what = "the output" if is_output else str(error.filename)
    message = f"error: cannot write {what} ({error.strerror}): free some space, or write elsewhere"
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    return StorageError.exit_code


def _one_line(text: str) -> str:
    """A message without what names of files and folders may hold: line ends, terminal codes."""
    flat = " ".join(without_controls(text).split("\n"))
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}..."


def _is_closed(error: OSError) -> bool:
    return isinstance(error, BrokenPipeError) or error.errno in (errno.EIO, errno.EBADF)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
