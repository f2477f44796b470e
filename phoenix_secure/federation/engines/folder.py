"""An engine over a plain folder, for sites without a network: a share, a sync job, a USB stick.

::

    ROOT/SITE/requests/ID.msg      written by the server, removed by the site once answered
    ROOT/SITE/replies/ID.msg       written by the site, removed by the server once read

Files appear by rename after fsync, so that neither side ever sees half of one. A stage that has
closed withdraws the requests nobody answered, and answers that come later are thrown away.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.engines.envelope import (
    Envelope,
    MalformedEnvelope,
    read_envelope,
    write_envelope,
)
from phoenix_secure.federation.engines.exchange import (
    SMALL_REPLY_BYTES,
    Failure,
    FailureCode,
    OnReply,
    Reply,
)
from phoenix_secure.federation.engines.stage import Stage
from phoenix_secure.files import storage_errors
from protocol.encoding import is_id

__all__ = ["MAX_MESSAGE_BYTES", "FolderEngine", "replies_of", "requests_of"]

# Far above a model of a billion float32 parameters in one piece.
MAX_MESSAGE_BYTES = 1 << 33


def requests_of(root: Path, site: str) -> Path:
    """The folder of the server's requests to ``site``."""
    return root / site / "requests"


def replies_of(root: Path, site: str) -> Path:
    """The folder of the replies of ``site``."""
    return root / site / "replies"


class FolderEngine:
    """Carries stages through files below ``root``.

    ``max_reply_bytes`` bounds the answers of stages that state no limit of their own.

    Raises:     ConfigError for names that cannot be folders; StorageError where it cannot write.
    """

    def __init__(
        self,
        root: Path,
        *,
        sites: Iterable[str],
        session: str = "",
        poll_s: float = 0.05,
        max_reply_bytes: int = SMALL_REPLY_BYTES,
    ) -> None:
        self._root = root
        self._sites = tuple(sorted(sites))
        for site in self._sites:
            if not is_id(site):
                raise ConfigError(f"site name {site!r} must be letters, digits, '.', '_' or '-'")
        self._session = session
        self._poll_s = poll_s
        self._max_reply_bytes = max_reply_bytes
        with storage_errors(root):
            for site in self._sites:
                # What an earlier run left unanswered must not be answered into this one.
                for folder in (requests_of(root, site), replies_of(root, site)):
                    folder.mkdir(parents=True, exist_ok=True)
                    _remove_messages(folder)

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
        name = f"{uuid.uuid4().hex}.msg"
        for site, body in requests.items():
            if site not in self._sites:
                open_stage.settle(site, Failure(code=FailureCode.UNREACHABLE))
                continue
            request = Envelope(
                kind="request", site=site, session=self._session, stage=stage, body=body
            )
            write_envelope(requests_of(self._root, site) / name, request)
        try:
            while not open_stage.closed:
                for site in sorted(open_stage.waiting):
                    path = replies_of(self._root, site) / name
                    if path.exists():
                        open_stage.settle(site, self._take(path, site, stage, limit))
                if not open_stage.closed:
                    time.sleep(self._poll_s)
        finally:
            for site in requests:
                if site in self._sites:
                    (requests_of(self._root, site) / name).unlink(missing_ok=True)
                    _remove_messages(replies_of(self._root, site))
        return open_stage.answers()

    def close(self) -> None:
        """Withdraw what is still unanswered."""
        for site in self._sites:
            _remove_messages(requests_of(self._root, site))

    def _take(self, path: Path, site: str, stage: str, limit: int) -> Reply | Failure:
        """Read an answer that has appeared, and remove it."""
        try:
            reply = read_envelope(path, max_bytes=limit)
        except MalformedEnvelope:
            return Failure(code=FailureCode.MALFORMED)
        path.unlink(missing_ok=True)
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


def _remove_messages(folder: Path) -> None:
    """Delete every message in ``folder`` (never what a link points to)."""
    for path in folder.glob("*.msg"):
        if path.is_dir() and not path.is_symlink():
            continue
        path.unlink(missing_ok=True)
