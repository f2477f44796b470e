"""An engine over a plain folder, for sites without a network: a share, a sync job, a USB stick.

::

    ROOT/SITE/requests/ID.msg      written by the server, removed by the site once answered
    ROOT/SITE/replies/ID.msg       written by the site, removed by the server once read

Files appear by rename after fsync, so that neither side ever sees half of one. Where people or
programs copy them on, a file that is not whole is waited for as if it were not there. A stage that
has closed withdraws the requests nobody answered, and answers that come later are thrown away.

ID is random, for one site and one stage. Whatever a site does to its own folder is a failure of
that site (``message_folder``); only a ROOT that is gone ends the run.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.engines.envelope import (
    Envelope,
    IncompleteEnvelope,
    MalformedEnvelope,
)
from phoenix_secure.federation.engines.exchange import (
    SMALL_REPLY_BYTES,
    Failure,
    FailureCode,
    OnReply,
    Reply,
)
from phoenix_secure.federation.engines.message_folder import MessageFolder
from phoenix_secure.federation.engines.partial_copies import PartialCopies
from phoenix_secure.federation.engines.stage import Stage
from phoenix_secure.files import storage_errors
from protocol.encoding import is_id

__all__ = ["MAX_MESSAGE_BYTES", "FolderEngine", "OnWait", "replies_of", "requests_of"]

_log = logging.getLogger(__name__)
# Far above a model of a billion float32 parameters in one piece.
MAX_MESSAGE_BYTES = 1 << 33
# Told for which sites a stage waits, and for how many more seconds at most.
OnWait = Callable[[str, tuple[str, ...], float], object]
# Stages that go through at once need no words.
_SAY_AFTER_S = 2.0


def requests_of(root: Path, site: str) -> MessageFolder:
    """The folder of the server's requests to ``site``."""
    return MessageFolder(root, site, "requests")


def replies_of(root: Path, site: str) -> MessageFolder:
    """The folder of the replies of ``site``."""
    return MessageFolder(root, site, "replies")


class FolderEngine:
    """Carries stages through files below ``root``.

    ``max_reply_bytes`` bounds the answers of stages that state no limit of their own. ``on_wait``
    hears for whom a stage waits, each time that this changes.

    Raises:     ConfigError for names that cannot be folders; StorageError where ``root`` cannot
                be used, at the start or later. A site whose own folder cannot be used is
                UNREACHABLE, and the log says why.
    """

    def __init__(
        self,
        root: Path,
        *,
        sites: Iterable[str],
        session: str = "",
        poll_s: float = 0.05,
        max_reply_bytes: int = SMALL_REPLY_BYTES,
        on_wait: OnWait | None = None,
    ) -> None:
        self._root = root
        self._on_wait = on_wait
        self._sites = tuple(sorted(sites))
        for site in self._sites:
            if not is_id(site):
                raise ConfigError(f"site name {site!r} must be letters, digits, '.', '_' or '-'")
        self._session = session
        self._poll_s = poll_s
        self._max_reply_bytes = max_reply_bytes
        self._requests = {site: requests_of(root, site) for site in self._sites}
        self._replies = {site: replies_of(root, site) for site in self._sites}
        self._partial = {site: PartialCopies(str(root / site / "replies")) for site in self._sites}
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        self._require_root()
        for site in self._sites:
            # What an earlier run left unanswered must not be answered into this one.
            for folder in (self._requests[site], self._replies[site]):
                try:
                    folder.make()
                except OSError as error:
                    self._warn(site, error)
                folder.clear()

    @property
    def sites(self) -> tuple[str, ...]:
        return self._sites

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
        open_stage = Stage(
            requests, deadline_s=deadline_s, quorum=quorum, grace_s=grace_s, on_reply=on_reply
        )
        limit = self._max_reply_bytes if max_reply_bytes is None else max_reply_bytes
        self._require_root()
        names = {site: f"{secrets.token_hex(16)}.msg" for site in self._sites}
        for site, body in requests.items():
            if not self._send(site, stage, body, name=names.get(site)):
                open_stage.settle(site, Failure(code=FailureCode.UNREACHABLE))
        started, told = time.monotonic(), frozenset[str]()
        try:
            while not open_stage.closed:
                for site in sorted(open_stage.waiting):
                    answer = self._take(site, stage, limit, name=names[site])
                    if answer is not None:
                        open_stage.settle(site, answer)
                waited_s = time.monotonic() - started
                if waited_s >= _SAY_AFTER_S and open_stage.waiting not in (told, frozenset()):
                    told = open_stage.waiting
                    self._say_waiting(stage, told, left_s=max(0.0, deadline_s - waited_s))
                if not open_stage.closed:
                    time.sleep(self._poll_s)
        finally:
            for site in self._sites:
                if site in requests:
                    self._partial[site].keep(())
                    self._requests[site].remove(names[site])
                    self._replies[site].clear()
        return open_stage.answers()

    def close(self) -> None:
        """Withdraw what is still unanswered."""
        for site in self._sites:
            self._requests[site].clear()

    def _say_waiting(self, stage: str, sites: frozenset[str], *, left_s: float) -> None:
        if self._on_wait is not None:
            self._on_wait(stage, tuple(sorted(sites)), left_s)

    def _require_root(self) -> None:
        with storage_errors(self._root):
            os.close(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _send(self, site: str, stage: str, body: bytes, *, name: str | None) -> bool:
        """Write a request; False where there is no such site, or its folder cannot be used."""
        if name is None:
            return False
        request = Envelope(kind="request", site=site, session=self._session, stage=stage, body=body)
        try:
            self._requests[site].put(name, request)
        except OSError as error:
            self._warn(site, error)
            return False
        return True

    def _take(self, site: str, stage: str, limit: int, *, name: str) -> Reply | Failure | None:
        """Read an answer and remove it; None while there is none."""
        folder, partial = self._replies[site], self._partial[site]
        if not partial.is_due(name):
            return None
        try:
            reply = folder.read(name, max_bytes=limit)
        except IncompleteEnvelope:
            partial.found(name)
            return None
        except OSError:  # also a folder that is gone: it may come back before the stage closes
            return None
        except MalformedEnvelope:
            return Failure(code=FailureCode.MALFORMED)
        folder.remove(name)
        expected = Envelope(
            kind="reply",
            site=site,
            session=self._session,
            stage=stage,
            code=reply.code,
            body=reply.body,
        )
        if reply != expected:
            return Failure(code=FailureCode.MALFORMED)
        if not reply.code:
            return Reply(body=reply.body)
        known = reply.code in {code.value for code in FailureCode}
        return Failure(code=FailureCode(reply.code) if known else FailureCode.MALFORMED)

    def _warn(self, site: str, error: OSError) -> None:
        _log.warning(
            "the folder of %s below %s cannot be used (%s): it must hold the plain folders "
            "requests and replies, which this server may write",
            site,
            self._root,
            error.strerror or error,
        )
