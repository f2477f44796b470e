"""A site that does not get to its server says why, in its own output.

Flower's SuperNode tries again and again, and tells at most its log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from phoenix_secure.federation.deployment.door_probe import probe_way
from phoenix_secure.federation.deployment.finding import Finding
from phoenix_secure.federation.deployment.site_folder import SiteFolder

__all__ = ["watch_door"]

_PAUSE_S = 60.0


def watch_door(
    address: str,
    folder: SiteFolder,
    *,
    say: Callable[[str], object],
    stop: threading.Event,
    pause_s: float = _PAUSE_S,
) -> None:
    """Look until nothing is wrong between here and the door at ``address``, or ``stop`` is set.

    Each fault is said once as long as it stays the same.
    """
    said: list[str] = []
    while not stop.is_set():
        bad = [_told(each) for each in probe_way(address, folder) if each.level == "bad"]
        if not bad:
            if said:
                say("the server is reached now, and nothing is wrong on the way")
            return
        for message in bad if bad != said else ():
            say(message)
        said = bad
        stop.wait(pause_s)


def _told(fault: Finding) -> str:
    if fault.name == "door":
        return f"the server is not reached: {fault.message}; trying on"
    return fault.message
