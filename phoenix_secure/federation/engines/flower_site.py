"""The warm worker of a site: takes tasks from its own SuperNode and answers them in this process.

It replaces Flower's ``flower-superexec``, which would install and import the bundle that the
server ships. Here the bundle is hashed, compared by whoever handles the request, and dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supernode.runtime import run_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from phoenix_secure.federation.engines.bundle import bundle_hash
from phoenix_secure.federation.engines.client_app import site_app
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.flower_address import FlowerAddress, check_flower_version
from phoenix_secure.federation.engines.flower_api import (
    TaskHeartbeat,
    acquire_task,
    claiming_client,
    task_client,
)
from phoenix_secure.federation.engines.prompt_pulls import use_prompt_pulls
from phoenix_secure.federation.engines.request import Handle, SiteRequest
from phoenix_secure.federation.engines.wire import error_message

__all__ = ["serve_flower"]

_log = logging.getLogger(__name__)
# Between two looks at the file that the SuperNode touches, and between two calls if it does not.
_LOOK_S = 0.01
_LONGEST_WAIT_S = 1.0


def serve_flower(
    supernode: FlowerAddress,
    *,
    handle: Handle,
    stop: threading.Event,
    wake: Path | None = None,
    poll_s: float = 0.1,
) -> None:
    """Answer tasks of the SuperNode at ``supernode`` until ``stop`` is set.

    ``wake`` is the file that the SuperNode touches when it has a task (``supernode``); without it
    the SuperNode is asked every ``poll_s`` seconds, with it every second at least.

    Guarantee:  no byte of the shipped bundle is installed, imported or unpacked. A SuperNode that
                goes away is waited for.
    Raises:     ConfigError for another Flower version.
    """
    check_flower_version()
    use_prompt_pulls(run_clientapp, "pull_and_inflate_object_from_tree")
    # All answers come from one thread that stays, because trainers keep a network per thread.
    answering = ThreadPoolExecutor(1, thread_name_prefix="site")

    def handle_there(request: SiteRequest) -> bytes:
        return answering.submit(handle, request).result()

    claiming = claiming_client(supernode)
    try:
        while not stop.is_set():
            seen = _touched(wake)
            try:
                token = acquire_task(claiming, task_type=TaskType.CLIENT_APP)
            except httpx.HTTPError as error:
                _log.info("the SuperNode is away (%s)", type(error).__name__)
                stop.wait(1)
                continue
            if token is None:
                _wait(stop, wake, seen=seen, poll_s=poll_s)
                continue
            # One task at a time is all that a SuperNode hands out. Another one means that it has
            # given the one before up, whose content may never come: that must not make the site
            # deaf.
            threading.Thread(
                target=_try_to_work_on,
                args=(supernode, token, handle_there),
                name="task",
                daemon=True,
            ).start()
    finally:
        claiming.close()
        answering.shutdown(wait=False, cancel_futures=True)


def _wait(stop: threading.Event, wake: Path | None, *, seen: int, poll_s: float) -> None:
    """Until it is time to ask again: at once where ``wake`` was touched since ``seen``."""
    if wake is None:
        stop.wait(poll_s)
        return
    end = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < end and _touched(wake) == seen:
        if stop.wait(_LOOK_S):
            return


def _touched(wake: Path | None) -> int:
    """When ``wake`` was touched; 0 where it never was."""
    try:
        return 0 if wake is None else wake.stat().st_mtime_ns
    except OSError:
        return 0


def _try_to_work_on(supernode: FlowerAddress, token: str, handle: Handle) -> None:
    try:
        _work_on(supernode, token, handle)
    except Exception as error:
        # The answer could not be delivered. The server counts us as dropped out; a request that
        # comes again is answered from the cache.
        _log.warning("a task was lost (%s)", type(error).__name__)


def _work_on(supernode: FlowerAddress, token: str, handle: Handle) -> None:
    """Take the input of one task, answer it, hand the answer back."""
    client = task_client(supernode, token=token, component="flwr-clientapp")
    try:
        with TaskHeartbeat(client):
            message, context, _, fab = pull_task_input(client)
            app = site_app(handle, bundle_hash=bundle_hash(fab.content))
            try:
                reply = app(message, context)
            except Exception:  # a message of another type, say; the server hears only a code
                _log.exception("a message could not be answered")
                reply = error_message(FailureCode.ERROR, reply_to=message)
            push_message(client, reply, context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
    finally:
        client.close()
