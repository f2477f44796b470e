"""An engine over any Flower Grid: push the requests, poll, close on quorum and grace."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.wire import MESSAGE_TYPE, pack, unpack_reply

__all__ = ["GridEngine"]


class GridEngine:
    """Carries stages over ``grid``; ``nodes`` maps each site's name to its Flower node."""

    def __init__(self, grid: Grid, *, nodes: Mapping[str, int], poll_s: float = 0.005) -> None:
        self._grid = grid
        self._nodes = dict(nodes)
        self._poll_s = poll_s

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
    ) -> dict[str, Reply | Failure]:
        # Not Grid.send_and_receive: it sleeps three seconds between two looks.
        answers: dict[str, Reply | Failure] = {}
        waiting: dict[str, str] = {}
        for site, body in requests.items():
            message = Message(pack(stage, body), self._nodes[site], MESSAGE_TYPE)
            (message_id,) = self._grid.push_messages([message])
            waiting[message_id] = site
        now = time.monotonic()
        close_at = now + deadline_s
        needed = len(requests) if quorum is None else min(quorum, len(requests))
        quorum_reached = False
        while waiting and now < close_at:
            for reply in self._grid.pull_messages(list(waiting)):
                # Flower reports a lost node under a foreign node id: only this id is reliable.
                site_of_reply = waiting.pop(reply.metadata.reply_to_message_id, None)
                if site_of_reply is not None:
                    answers[site_of_reply] = unpack_reply(reply, stage=stage)
            good = sum(isinstance(answer, Reply) for answer in answers.values())
            if not quorum_reached and good >= needed and waiting:
                quorum_reached = True
                close_at = min(close_at, time.monotonic() + grace_s)
            if waiting:
                time.sleep(self._poll_s)
            now = time.monotonic()
        for site in waiting.values():
            answers[site] = Failure(code=FailureCode.NO_REPLY)
        return {site: answers[site] for site in sorted(answers)}

    def close(self) -> None:
        close = getattr(self._grid, "close", None)
        if close is not None:
            close()
