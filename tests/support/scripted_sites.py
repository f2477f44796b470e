"""Sites that do what the test says: the body of each request is a small JSON order."""

from __future__ import annotations

import json
import os
import threading
import time

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.request import SiteRequest


def order(do: str, **details: object) -> bytes:
    return json.dumps({"do": do, **details}).encode()


class ScriptedSite:
    """Answers orders; while it is down it hangs, as a killed process does for the server."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.up.set()
        self.served: list[str] = []

    def __call__(self, request: SiteRequest) -> bytes:
        if not self.up.wait(60):
            raise SiteFailure(FailureCode.CANCELLED)
        self.served.append(request.stage)
        return carry_out(request)


def carry_out(request: SiteRequest) -> bytes:
    what = json.loads(request.body)
    match what["do"]:
        case "echo":
            return (
                f"{request.site}/{request.session}/{request.stage}/{what.get('say', '')}".encode()
            )
        case "sleep":
            time.sleep(what["seconds"])
            return b"late"
        case "grow":
            return bytes(what["size"])
        case "flood":  # no two objects of it are alike, so that all of it travels
            return os.urandom(what["size"])
        case "refuse":
            raise SiteFailure(FailureCode.REFUSED)
        case _:
            raise RuntimeError("pixels of a patient")
