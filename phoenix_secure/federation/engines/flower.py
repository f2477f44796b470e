"""An engine over a Flower SuperLink: the process that runs the rounds is the run's ServerApp.

In stock Flower a helper installs and imports the bundle of a run at the server. Here nobody does:
the process that drives the rounds claims the run's server task by itself (with the SuperExec
secret) and works on it. A SuperLink that restarts costs the open stage; then a new run of the
same session begins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

import httpx
from flwr.supercore.constant import NodeStatus

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.bundle import make_bundle
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, OnReply, Reply
from phoenix_secure.federation.engines.flower_address import FlowerAddress, check_flower_version
from phoenix_secure.federation.engines.flower_api import control_client, list_nodes
from phoenix_secure.federation.engines.flower_task import COMPLETED, FAILED, ServerTask
from phoenix_secure.federation.engines.grid import GridEngine

__all__ = ["FlowerEngine"]

_log = logging.getLogger(__name__)


class FlowerEngine:
    """Carries stages through the SuperLink at ``superlink``.

    ``nodes`` maps each site to its node's public key (see ``node_key_bytes``): Flower's node ids
    change and mean nothing. ``gather_s`` is how long to wait for all sites at the start and after
    a lost connection; ``reconnect_s`` how long for the SuperLink itself.

    Raises:     ConfigError for another Flower version; TrainingError when the SuperLink stays away.
    """

    def __init__(
        self,
        superlink: FlowerAddress,
        *,
        nodes: Mapping[str, bytes],
        session: str,
        bundle: bytes | None = None,
        poll_s: float = 0.1,
        gather_s: float = 60.0,
        reconnect_s: float = 120.0,
        max_reply_bytes: int | None = None,
    ) -> None:
        check_flower_version()
        self._superlink = superlink
        self._keys = dict(nodes)
        self._session = session
        self._bundle = make_bundle() if bundle is None else bundle
        self._poll_s = poll_s
        self._gather_s = gather_s
        self._reconnect_s = reconnect_s
        self._max_reply_bytes = max_reply_bytes
        self._task: ServerTask | None = None
        self._engine: GridEngine | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites whose nodes are online, after waiting for all of them where that is due."""
        self._connected()
        return tuple(sorted(self._online()))

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
        engine = self._connected()
        started = time.monotonic()
        absent = set() if quorum is None else self._absent(requests, quorum=quorum)
        answers = engine.exchange(
            stage,
            {site: body for site, body in requests.items() if site not in absent},
            deadline_s=max(0.0, deadline_s - (time.monotonic() - started)),
            quorum=quorum,
            grace_s=grace_s,
            on_reply=on_reply,
            max_reply_bytes=max_reply_bytes,
        )
        away = dict.fromkeys(absent, Failure(code=FailureCode.UNREACHABLE))
        return dict(sorted((answers | away).items()))

    def close(self) -> None:
        """Tell the SuperLink that the run is over."""
        if self._task is not None:
            self._task.finish(COMPLETED)
        self._task = self._engine = None

    def _connected(self) -> GridEngine:
        """The engine of the current run; a new run when there is none or it was lost."""
        if self._engine is not None and not self._engine.is_lost:
            return self._engine
        if self._task is not None:
            _log.warning("the SuperLink was lost; starting a new run of the same session")
            self._task.finish(FAILED)
        self._task = self._engine = None
        end = time.monotonic() + self._reconnect_s
        while True:
            try:
                self._task = ServerTask(self._superlink, bundle=self._bundle)
                break
            except httpx.HTTPError as error:
                if time.monotonic() >= end:
                    raise TrainingError(
                        f"no SuperLink at {self._superlink.address} ({type(error).__name__}): "
                        "start it with `phoenix-secure server start`, then resume"
                    ) from error
                time.sleep(1)
        self._gather()
        self._engine = GridEngine(
            self._task.grid,
            nodes=self._node_ids(),
            poll_s=self._poll_s,
            session=self._session,
            max_reply_bytes=self._max_reply_bytes,
        )
        return self._engine

    def _gather(self) -> None:
        """Wait until every site is online, or for ``gather_s``."""
        end = time.monotonic() + self._gather_s
        while len(self._online()) < len(self._keys) and time.monotonic() < end:
            time.sleep(0.5)

    def _absent(self, sites: Iterable[str], *, quorum: int) -> set[str]:
        """Sites that are known to be offline, once a quorum is online or ``gather_s`` is over.

        Nobody waits a grace time for them: Flower would keep the request for their return.
        """
        asked = set(sites)
        end = time.monotonic() + self._gather_s
        while True:
            online = asked & set(self._online())
            if not online:  # a SuperLink that is gone shows when the request is pushed
                return set()
            if len(online) >= min(quorum, len(asked)) or time.monotonic() >= end:
                return asked - online
            time.sleep(0.5)

    def _online(self) -> list[str]:
        nodes = self._nodes()
        offline = (0, NodeStatus.OFFLINE)
        return [
            site
            for site, key in self._keys.items()
            if nodes.get(key, offline)[1] == NodeStatus.ONLINE
        ]

    def _node_ids(self) -> dict[str, int]:
        nodes = self._nodes()
        return {site: nodes[key][0] for site, key in self._keys.items() if key in nodes}

    def _nodes(self) -> dict[bytes, tuple[int, str]]:
        """The nodes that the SuperLink knows; empty while it cannot be reached."""
        try:
            with control_client(self._superlink) as client:
                return list_nodes(client)
        except httpx.HTTPError:
            return {}
