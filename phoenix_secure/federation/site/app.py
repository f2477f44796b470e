"""The Flower ClientApp of a site: the same object in one process and behind a SuperNode."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.wire import ACTION, error_message, pack, unpack_request
from phoenix_secure.federation.site.worker import SiteFailure

__all__ = ["client_app"]

_log = logging.getLogger(__name__)


def client_app(handle: Callable[[str, str, bytes], bytes]) -> ClientApp:
    """An app that answers with ``handle(site, stage, body)``; whatever fails leaves as a code."""
    app = ClientApp()

    @app.query(ACTION)
    def exchange(message: Message, context: Context) -> Message:
        try:
            stage, body = unpack_request(message)
            answer = handle(str(context.node_config["site"]), stage, body)
        except SiteFailure as failure:
            return error_message(failure.code, reply_to=message)
        except Exception:  # its text could hold paths or values: it stays in the site's own log
            _log.exception("stage failed")
            return error_message(FailureCode.ERROR, reply_to=message)
        return Message(pack(stage, answer), reply_to=message)

    return app
