"""A run of the SuperLink whose server task this process has claimed, and the Grid it talks over."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from phoenix_secure.federation.engines.bundle import bundle_hash
from phoenix_secure.federation.engines.flower_api import (
    FlowerAddress,
    TaskHeartbeat,
    acquire_task,
    control_client,
    start_run,
    task_client,
)
from phoenix_secure.federation.engines.grid import GridLost

__all__ = ["COMPLETED", "FAILED", "ServerTask"]

COMPLETED, FAILED = SubStatus.COMPLETED, SubStatus.FAILED
_log = logging.getLogger(__name__)


class ServerTask:
    """A run of the bundle whose server task this process has claimed."""

    def __init__(self, superlink: FlowerAddress, *, bundle: bytes) -> None:
        with control_client(superlink) as client:
            run_id = start_run(client, bundle=bundle, bundle_hash=bundle_hash(bundle))
        while True:
            token = acquire_task(superlink, task_type=TaskType.SERVER_APP)
            if token is None:
                time.sleep(0.2)
                continue
            self._client = task_client(superlink, token=token, component="flwr-serverapp")
            given = self._client.PullTaskInput(PullTaskInputRequest())
            if given.run.run_id == run_id:
                break
            # Left over from somebody who died before claiming it, or not ours at all.
            self._push_output(FAILED)
            self._client.close()
        TaskIdentity.task_id = given.task_id
        TaskIdentity.run_id = given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        self.grid = _LosableGrid(superlink, token=token, run=run_from_proto(given.run))
        self._heartbeat = TaskHeartbeat(self._client)
        self._heartbeat.__enter__()

    def finish(self, sub_status: str) -> None:
        """Report the end of the run; a SuperLink that is gone does not mind."""
        self._heartbeat.__exit__(None, None, None)
        self._push_output(sub_status)
        self._client.close()
        self.grid.close()

    def _push_output(self, sub_status: str) -> None:
        try:
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=sub_status))
        except httpx.HTTPError:
            _log.info("the SuperLink did not hear that the run ended")


class _LosableGrid(HttpGrid):
    """Flower's Grid, but a refused token or a SuperLink that stays away raises GridLost."""

    _PATIENCE_S = 10.0
    # A busy one may keep a call waiting for its whole timeout (30 s), and is not gone.
    _BUSY_PATIENCE_S = 150.0

    def __init__(self, superlink: FlowerAddress, *, token: str, run: Run) -> None:
        super().__init__(
            superlink.address,
            insecure=superlink.root_certificates is None,
            root_certificates=superlink.root_certificates,
            token=token,
        )
        # In place of the client that HttpGrid would make, which sends SIGINT when refused.
        self._client = task_client(superlink, token=token, component="flwr-serverapp")
        self._pulls: dict[str, _Pull] = {}
        self.set_run(run)

    def push_messages(self, messages: list[Message]) -> list[str | None]:  # type: ignore[override]
        try:
            return list(super().push_messages(messages))
        except httpx.HTTPError as error:
            raise GridLost from error

    def pull_messages(self, message_ids: list[str]) -> Iterator[Message]:  # type: ignore[override]
        """The answers that are here, each fetched by a thread of its own.

        Flower shows an answer before its content has arrived and then waits for the content, for
        hours if need be. A site that dies in the middle of an upload must hold up neither the
        others nor the deadline of the stage.

        Raises:     GridLost when the SuperLink refuses us or has been silent for too long.
        """
        for message_id in self._pulls.keys() - set(message_ids):
            self._pulls.pop(message_id).abandon()
        for message_id in message_ids:
            if message_id not in self._pulls:
                fetch = functools.partial(super().pull_messages, [message_id])
                self._pulls[message_id] = _Pull(
                    fetch, patience_s=self._PATIENCE_S, busy_patience_s=self._BUSY_PATIENCE_S
                )
        # One after another, so that whoever drops each never holds them all.
        return (message for pull in list(self._pulls.values()) for message in pull.take())

    def close(self) -> None:
        for pull in self._pulls.values():
            pull.abandon()
        super().close()


class _Pull:
    """Asks for one answer until it is here; a daemon, so that a hanging one ends with us."""

    _POLL_S = 0.2

    def __init__(
        self,
        fetch: Callable[[], Iterable[Message]],
        *,
        patience_s: float,
        busy_patience_s: float,
    ) -> None:
        self._fetch = fetch
        self._patience_s = patience_s
        self._busy_patience_s = busy_patience_s
        self._found: queue.SimpleQueue[Message | httpx.HTTPError] = queue.SimpleQueue()
        self._abandoned = threading.Event()
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def take(self) -> list[Message]:
        """The answer, once; nothing while it is on its way."""
        try:
            found = self._found.get_nowait()
        except queue.Empty:
            return []
        if isinstance(found, httpx.HTTPError):
            raise GridLost from found
        return [found]

    def abandon(self) -> None:
        """Give up on this answer: nobody waits for it any more."""
        self._abandoned.set()

    def _run(self) -> None:
        last_heard = time.monotonic()
        while not self._abandoned.is_set():
            try:
                for message in self._fetch():
                    self._found.put(message)
                    return
                last_heard = time.monotonic()
            except httpx.HTTPError as error:
                # A SuperLink under load may miss a call; one that refuses us has lost the run.
                silent_s = time.monotonic() - last_heard
                is_slow = isinstance(error, httpx.TimeoutException)
                patience_s = self._busy_patience_s if is_slow else self._patience_s
                if not isinstance(error, httpx.TransportError) or silent_s > patience_s:
                    self._found.put(error)
                    return
            self._abandoned.wait(self._POLL_S)
