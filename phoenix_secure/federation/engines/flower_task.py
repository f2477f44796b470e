"""A run of the SuperLink whose server task this process has claimed, and the Grid it talks over."""

from __future__ import annotations

import logging
import time

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

    # A SuperLink under load may miss a call; one that is gone for longer has lost the run.
    _PATIENCE_S = 10.0

    def __init__(self, superlink: FlowerAddress, *, token: str, run: Run) -> None:
        super().__init__(
            superlink.address,
            insecure=superlink.root_certificates is None,
            root_certificates=superlink.root_certificates,
            token=token,
        )
        # In place of the client that HttpGrid would make, which sends SIGINT when refused.
        self._client = task_client(superlink, token=token, component="flwr-serverapp")
        self._last_answer = time.monotonic()
        self.set_run(run)

    def push_messages(self, messages: list[Message]) -> list[str | None]:  # type: ignore[override]
        try:
            return list(super().push_messages(messages))
        except httpx.HTTPError as error:
            raise GridLost from error

    def pull_messages(self, message_ids: list[str]) -> list[Message]:  # type: ignore[override]
        try:
            messages = list(super().pull_messages(message_ids))
        except httpx.TransportError as error:
            if time.monotonic() - self._last_answer > self._PATIENCE_S:
                raise GridLost from error
            time.sleep(0.5)
            return []
        except httpx.HTTPError as error:
            raise GridLost from error
        self._last_answer = time.monotonic()
        return messages
