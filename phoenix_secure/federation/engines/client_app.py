"""The Flower ClientApp of a site: the same object in a simulation and behind a SuperNode."""

from __future__ import annotations

import sys
from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from phoenix_secure.federation.engines.exchange import Failure, FailureCode
from phoenix_secure.federation.engines.request import Handle, SiteRequest, answer
from phoenix_secure.federation.engines.wire import (
    ACTION,
    PART_BYTES,
    error_message,
    pack,
    read_group,
    unpack_request,
)

__all__ = ["client_app", "site_app"]


def site_app(
    handle: Handle, *, bundle_hash: str | None = None, part_bytes: int = PART_BYTES
) -> ClientApp:
    """An app that answers with ``handle(request)``; whatever fails leaves as a code.

    ``bundle_hash`` names the code that the server shipped along with the messages; it is only
    ever compared, never imported. Answers of more than ``part_bytes`` travel in parts.
    """
    app = ClientApp()

    @app.query(ACTION)
    def exchange(message: Message, context: Context) -> Message:
        try:
            stage, body = unpack_request(message)
        except ValueError:
            return error_message(FailureCode.MALFORMED, reply_to=message)
        request = SiteRequest(
            site=str(context.node_config["site"]),
            session=read_group(message.metadata.group_id)[0],
            stage=stage,
            body=body,
            bundle_hash=bundle_hash,
        )
        given = answer(handle, request)
        if isinstance(given, Failure):
            return error_message(given.code, reply_to=message)
        return Message(pack(stage, given.body, part_bytes=part_bytes), reply_to=message)

    return app


def client_app(handle: Callable[[str, str, bytes], bytes]) -> ClientApp:
    """An app that answers with ``handle(site, stage, body)``, for sites of one process.

    Nothing bounds a message there, so that no body is cut and joined.
    """
    return site_app(
        lambda request: handle(request.site, request.stage, request.body), part_bytes=sys.maxsize
    )
