"""Requests and replies of a site, independent of the transport; a reply is bytes or a code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.failure import SiteFailure

__all__ = ["Handle", "SiteRequest", "answer"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteRequest:
    """One stage that the server asks of a site.

    session          names the plan (its hash); empty where there is none
    bundle_hash      SHA-256 of the code bundle that came along; None where none travels
    """

    site: str
    session: str
    stage: str
    body: bytes
    bundle_hash: str | None = None

    def __repr__(self) -> str:
        return f"<SiteRequest {self.stage} of {self.session[:12]}, {len(self.body)} bytes>"


Handle = Callable[[SiteRequest], bytes]


def answer(handle: Handle, request: SiteRequest) -> Reply | Failure:
    """The reply of ``handle``; whatever it raises leaves the site as a code and nothing else."""
    try:
        return Reply(body=handle(request))
    except SiteFailure as failure:
        return Failure(code=failure.code)
    # Its text could hold paths or values: it stays in the site's own log.
    except PhoenixError as error:
        _log.error("stage %s failed: %s", request.stage, error)
        return Failure(code=FailureCode.ERROR)
    except Exception:
        _log.exception("stage failed")
        return Failure(code=FailureCode.ERROR)
