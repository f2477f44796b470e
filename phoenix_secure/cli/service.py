"""Messages and shutdown of long-running commands: shared by ``server`` and ``site``."""

from __future__ import annotations

import datetime as dt
import signal
import threading
from types import FrameType

import typer

__all__ = ["say", "stop_event"]


def say(text: str) -> None:
    """One line with the time, at once: journald and plain files both want that."""
    now = dt.datetime.now().astimezone().isoformat(timespec="seconds")
    typer.echo(f"{now} {text}")


def stop_event() -> threading.Event:
    """Set by SIGINT and SIGTERM, so that children are stopped and the log is closed."""
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop
