"""The site's side of the folder engine: answer the requests that appear, one after another."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from phoenix_secure.federation.engines.envelope import (
    Envelope,
    IncompleteEnvelope,
    MalformedEnvelope,
)
from phoenix_secure.federation.engines.exchange import Reply
from phoenix_secure.federation.engines.folder import MAX_MESSAGE_BYTES, replies_of, requests_of
from phoenix_secure.federation.engines.message_folder import MessageFolder
from phoenix_secure.federation.engines.partial_copies import PartialCopies
from phoenix_secure.federation.engines.request import Handle, SiteRequest, answer
from phoenix_secure.files import storage_errors

__all__ = ["serve_folder"]

_log = logging.getLogger(__name__)
# After a folder that could not be used: each try repeats an answer and writes a line into the log.
_RETRY_S = 5.0


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
                A folder that cannot be used later on (a stick that was taken out) is waited for.
    Raises:     StorageError when the folder cannot be used at the start.
    """
    inbox, outbox = requests_of(root, site), replies_of(root, site)
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        inbox.make()
        outbox.make()
    trouble = None
    partial = PartialCopies(str(root / site / "requests"))
    while not stop.is_set():
        try:
            names = inbox.names()
            partial.keep(names)
            for name in filter(partial.is_due, names):
                try:
                    _answer_file(inbox, outbox, name, site, handle, max_bytes=max_request_bytes)
                except IncompleteEnvelope:
                    partial.found(name)  # and never removed: somebody may be copying it
                if stop.is_set():
                    return
            trouble = None
        except OSError as error:
            if error.errno != trouble:
                why = error.strerror or error
                _log.warning("waiting for the folder of %s below %s: %s", site, root, why)
            trouble = error.errno
            stop.wait(_RETRY_S)
        stop.wait(poll_s)


def _answer_file(
    inbox: MessageFolder,
    outbox: MessageFolder,
    name: str,
    site: str,
    handle: Handle,
    *,
    max_bytes: int,
) -> None:
    """Raises IncompleteEnvelope for a request that is not whole yet."""
    try:
        request = inbox.read(name, max_bytes=max_bytes)
    except FileNotFoundError:  # the server has withdrawn it
        return
    except IncompleteEnvelope:
        raise
    except MalformedEnvelope as error:
        _log.warning("a request was unreadable: %s", error)
        inbox.remove(name)
        return
    if request.kind != "request" or request.site != site:
        _log.warning("a request was for somebody else")
        inbox.remove(name)
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
    outbox.put(name, reply)
    inbox.remove(name)
