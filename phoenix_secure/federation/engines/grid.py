"""An engine over any Flower Grid: push the requests, poll, close on quorum and grace."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from phoenix_secure.federation.engines.exchange import (
    SMALL_REPLY_BYTES,
    Failure,
    FailureCode,
    OnReply,
    Reply,
)
from phoenix_secure.federation.engines.stage import Stage
from phoenix_secure.federation.engines.wire import (
    MESSAGE_TYPE,
    PART_BYTES,
    group_of,
    pack,
    unpack_reply,
)

__all__ = ["GridEngine", "GridLost"]


_log = logging.getLogger(__name__)


class GridLost(ConnectionError):  # noqa: N818
    """The message transport is gone, and with it all work under way."""


class GridEngine:
    """Carries stages over ``grid``; ``nodes`` maps each site's name to its Flower node.

    ``session`` travels with every request (in Flower's group id) and says which plan the stage
    belongs to. ``max_reply_bytes`` bounds the answers of stages that state no limit of their own;
    None is ``SMALL_REPLY_BYTES``. Requests of more than ``part_bytes`` travel in parts.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        nodes: Mapping[str, int],
        poll_s: float = 0.005,
        session: str = "",
        max_reply_bytes: int | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._grid = grid
        self._part_bytes = part_bytes
        self._nodes = dict(nodes)
        self._poll_s = poll_s
        self._session = session
        self._max_reply_bytes = SMALL_REPLY_BYTES if max_reply_bytes is None else max_reply_bytes
        self.is_lost = False

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self._nodes))

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
        max_reply_bytes: int | None = None,
    ) -> dict[str, Reply | Failure]:
        # Not Grid.send_and_receive: it sleeps three seconds between two looks.
        open_stage = Stage(
            requests, deadline_s=deadline_s, quorum=quorum, grace_s=grace_s, on_reply=on_reply
        )
        limit = self._max_reply_bytes if max_reply_bytes is None else max_reply_bytes
        try:
            self._carry(stage, requests, open_stage, limit)
        except GridLost as error:
            _log.warning(
                "the connection was lost in %s (%s)", stage, type(error.__cause__).__name__
            )
            self.is_lost = True
            for site in open_stage.waiting:
                open_stage.settle(site, Failure(code=FailureCode.UNREACHABLE))
        return open_stage.answers()

    def close(self) -> None:
        close = getattr(self._grid, "close", None)
        if close is not None:
            close()

    def _carry(
        self, stage: str, requests: Mapping[str, bytes], open_stage: Stage, limit: int
    ) -> None:
        waiting = self._push(stage, requests, open_stage, limit)
        while not open_stage.closed:
            for reply in self._pull(list(waiting)):
                # Flower reports a lost node under a foreign node id: only this id is reliable.
                site = waiting.pop(reply.metadata.reply_to_message_id, None)
                if site is not None:
                    open_stage.settle(site, unpack_reply(reply, stage=stage, max_bytes=limit))
                del reply  # else a large answer would stay while the next one is fetched
            if not open_stage.closed:
                time.sleep(self._poll_s)

    def _push(
        self, stage: str, requests: Mapping[str, bytes], open_stage: Stage, limit: int
    ) -> dict[str, str]:
        """Send each request by itself and return the message ids that are waited for."""
        waiting: dict[str, str] = {}
        group = group_of(self._session, max_reply_bytes=limit)
        for site, body in requests.items():
            node = self._nodes.get(site)
            if node is None:
                open_stage.settle(site, Failure(code=FailureCode.UNREACHABLE))
                continue
            content = pack(stage, body, part_bytes=self._part_bytes)
            message = Message(content, node, MESSAGE_TYPE, group_id=group)
            (message_id,) = self._grid.push_messages([message])
            if message_id is None:  # the SuperLink does not take messages for this node
                open_stage.settle(site, Failure(code=FailureCode.UNREACHABLE))
            else:
                waiting[message_id] = site
        return waiting

    def _pull(self, message_ids: list[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids) if message_ids else []
