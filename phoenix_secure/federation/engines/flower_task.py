"""A run of the SuperLink whose server task this process has claimed, and the Grid it talks over."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from phoenix_secure.federation.engines.bounded_pull import Pulling, pull_reply
from phoenix_secure.federation.engines.bundle import bundle_hash
from phoenix_secure.federation.engines.flower_address import FlowerAddress
from phoenix_secure.federation.engines.flower_api import (
    TaskHeartbeat,
    acquire_task,
    claiming_client,
    control_client,
    start_run,
    task_client,
)
from phoenix_secure.federation.engines.grid import GridLost
from phoenix_secure.federation.engines.wire import read_group

__all__ = ["COMPLETED", "FAILED", "ServerTask"]

COMPLETED, FAILED = SubStatus.COMPLETED, SubStatus.FAILED
_log = logging.getLogger(__name__)


class ServerTask:
    """A run of the bundle whose server task this process has claimed."""

    def __init__(self, superlink: FlowerAddress, *, bundle: bytes) -> None:
        with control_client(superlink) as client:
            run_id = start_run(client, bundle=bundle, bundle_hash=bundle_hash(bundle))
        while True:
            token = _next_token(superlink)
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


def _next_token(superlink: FlowerAddress) -> str:
    client = claiming_client(superlink)
    try:
        while (token := acquire_task(client, task_type=TaskType.SERVER_APP)) is None:
            time.sleep(0.2)
        return token
    finally:
        client.close()


class _LosableGrid(HttpGrid):
    """Flower's Grid, but a refused token or a SuperLink that stays away raises GridLost."""

    _PATIENCE_S = 10.0
    # Answers in memory at a time, beside the one that is being read.
    _NUM_SLOTS = 2
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
        self._limits: dict[str, int] = {}
        self._slots = threading.Semaphore(self._NUM_SLOTS)
        self._run_id = run.run_id
        self.set_run(run)

    def push_messages(self, messages: list[Message]) -> list[str | None]:  # type: ignore[override]
        try:
            ids = list(super().push_messages(messages))
        except httpx.HTTPError as error:
            raise GridLost from error
        except ObjectPushError:
            # A node can say that it has its message before the content is there. It then gets
            # none, and the SuperLink takes none for it.
            _log.warning("a node did not wait for its request")
            return [None] * len(messages)
        for message, message_id in zip(messages, ids, strict=True):
            if message_id:
                self._limits[message_id] = read_group(message.metadata.group_id)[1]
        return [message_id or None for message_id in ids]

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
                self._pulls[message_id] = _Pull(
                    functools.partial(self._fetch, message_id, self._limits.pop(message_id)),
                    slots=self._slots,
                    patience_s=self._PATIENCE_S,
                    busy_patience_s=self._BUSY_PATIENCE_S,
                )
        # One after another, so that whoever drops each never holds them all.
        return (message for pull in list(self._pulls.values()) for message in pull.take())

    def _fetch(self, message_id: str, max_bytes: int, abandoned: threading.Event) -> Message | None:
        """The answer if it is here, and no more of it than its request allows."""
        request = Pulling(
            message_id=message_id,
            run_id=self._run_id,
            max_bytes=max_bytes,
            slots=self._slots,
            abandoned=abandoned,
        )
        return pull_reply(self._runtime_client, request)

    def close(self) -> None:
        for pull in self._pulls.values():
            pull.abandon()
        super().close()


class _Pull:
    """Asks for one answer until it is here; a daemon, so that a hanging one ends with us.

    An answer that ``fetch`` returns holds one of ``slots`` until it is taken or given up.
    """

    _POLL_S = 0.2

    def __init__(
        self,
        fetch: Callable[[threading.Event], Message | None],
        *,
        slots: threading.Semaphore,
        patience_s: float,
        busy_patience_s: float,
    ) -> None:
        self._fetch = fetch
        self._slots = slots
        self._patience_s = patience_s
        self._busy_patience_s = busy_patience_s
        self._found: Message | None = None
        self._error: httpx.HTTPError | None = None
        self._lock = threading.Lock()
        self._abandoned = threading.Event()
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def take(self) -> list[Message]:
        """The answer, once; nothing while it is on its way."""
        with self._lock:
            if self._error is not None:
                raise GridLost from self._error
            return self._handed_over()

    def abandon(self) -> None:
        """Give up on this answer: nobody waits for it any more."""
        with self._lock:
            self._abandoned.set()
            self._handed_over()

    def _handed_over(self) -> list[Message]:
        found, self._found = self._found, None
        if found is None:
            return []
        self._slots.release()
        return [found]

    def _run(self) -> None:
        last_heard = time.monotonic()
        while not self._abandoned.is_set():
            try:
                message = self._fetch(self._abandoned)
                if message is not None:
                    with self._lock:
                        self._found = message
                        del message
                        if self._abandoned.is_set():
                            self._handed_over()
                    return
                last_heard = time.monotonic()
            except httpx.HTTPError as error:
                # A SuperLink under load may miss a call; one that refuses us has lost the run.
                silent_s = time.monotonic() - last_heard
                is_slow = isinstance(error, httpx.TimeoutException)
                patience_s = self._busy_patience_s if is_slow else self._patience_s
                if not isinstance(error, httpx.TransportError) or silent_s > patience_s:
                    self._error = error
                    return
            except RuntimeError:
                # httpx's word for a connection that was closed under a call, as ``close`` does.
                if not self._abandoned.is_set():
                    raise
                return
            self._abandoned.wait(self._POLL_S)
