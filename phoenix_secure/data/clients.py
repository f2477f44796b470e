"""Run a package client: no shell, a deadline, and nothing of it left running."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["ClientFailed", "run_client"]

_POLL_S = 0.2
_GRACE_S = 3.0
_MAX_ANSWER = 240


class ClientFailed(Exception):  # noqa: N818  (an outcome to try the next source on, not an error)
    """A source could not deliver; the message is one line on why."""


def run_client(
    command: Sequence[str],
    *,
    folder: Path,
    timeout_s: float,
    watch: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Run ``command`` in ``folder`` and wait for it, telling ``watch`` how much it has written.

    Units:      ``watch`` gets the bytes of all files below ``folder``, five times a second.
    Guarantee:  when this returns or raises, be it by Ctrl-C, the client and all it started are
                gone.
    Raises:     ClientFailed when the program is not installed, fails (with the line that
                says why), or is not done after ``timeout_s``.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ClientFailed(f"{command[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C", "NO_COLOR": "1"}
    with tempfile.TemporaryFile() as answer:
        interrupted = _held_interrupt()
        try:
            # An argument list without a shell: nothing in it is ever interpreted.
            process = subprocess.Popen(  # noqa: S603
                [program, *command[1:]],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            interrupted()
            raise
        try:
            interrupted()
            deadline = time.monotonic() + timeout_s
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise ClientFailed(f"{command[0]} was not done after {timeout_s:.0f} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
                watch(_size_of(folder))
        finally:
            _end(process)
        if process.returncode != 0:
            raise ClientFailed(f"{command[0]} failed: {_reason(answer.fileno())}")


def _held_interrupt() -> Callable[[], None]:
    """Hold Ctrl-C back until the answer is called, which raises it where it came.

    In between a client is started that nobody could end: it runs before ``Popen`` returns.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # Ctrl-C is the main thread's
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))

    def release() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if came and callable(before):
            before(signal.SIGINT, None)

    return release


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop whatever of the client's process group is left, kindly at first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        if sign == signal.SIGTERM:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # children that outlived their parent
        return


def _reason(descriptor: int) -> str:
    """The first line of a client's answer that is an error, else its last; printable and short."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 4096, max(0, size - 4096)).decode("utf-8", "replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("e:", "error", "npm err"))]
    chosen = errors[0] if errors else (lines or ["no answer"])[-1]
    return "".join(c for c in chosen if c.isprintable())[:_MAX_ANSWER]


def _size_of(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # clients move their files about
            total += file.stat().st_size if file.is_file() else 0
    return total
