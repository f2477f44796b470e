"""The site's side of the folder engine: answer the requests that appear, one after another."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from phoenix_secure.federation.engines.envelope import (
    Envelope,
    MalformedEnvelope,
    read_envelope,
    write_envelope,
)
from phoenix_secure.federation.engines.exchange import Reply
from phoenix_secure.federation.engines.folder import MAX_MESSAGE_BYTES, replies_of, requests_of
from phoenix_secure.federation.engines.request import Handle, SiteRequest, answer
from phoenix_secure.files import storage_errors

__all__ = ["serve_folder"]

_log = logging.getLogger(__name__)


def serve_folder(
    root: Path,
    *,
    site: str,
    handle: Handle,
    stop: threading.Event,
    poll_s: float = 0.05,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
) -> None:
    """Answer what appears for ``site`` below ``root`` until ``stop`` is set.

    Guarantee:  the answer is on the disk before the request is removed: a crash in between makes
                the same request come again, which the reply cache of the site answers alike.
    Raises:     StorageError when the folder cannot be written.
    """
    inbox, outbox = requests_of(root, site), replies_of(root, site)
    with storage_errors(root):
        inbox.mkdir(parents=True, exist_ok=True)
        outbox.mkdir(parents=True, exist_ok=True)
    while not stop.is_set():
        for path in sorted(p for p in inbox.glob("*.msg") if p.is_symlink() or not p.is_dir()):
            _answer_file(path, outbox / path.name, site, handle, max_bytes=max_request_bytes)
            if stop.is_set():
                return
        stop.wait(poll_s)


def _answer_file(
    path: Path, reply_path: Path, site: str, handle: Handle, *, max_bytes: int
) -> None:
    try:
        request = read_envelope(path, max_bytes=max_bytes)
    except FileNotFoundError:  # the server has withdrawn it
        return
    except MalformedEnvelope as error:
        _log.warning("a request was unreadable: %s", error)
        _discard(path)
        return
    if request.kind != "request" or request.site != site:
        _log.warning("a request was for somebody else")
        _discard(path)
        return
    given = answer(
        handle,
        SiteRequest(site=site, session=request.session, stage=request.stage, body=request.body),
    )
    code, body = ("", given.body) if isinstance(given, Reply) else (given.code.value, b"")
    reply = Envelope(
        kind="reply",
        site=site,
        session=request.session,
        stage=request.stage,
        code=code,
        body=body,
    )
    write_envelope(reply_path, reply)
    _discard(path)


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)
