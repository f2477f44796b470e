"""How much time and memory the Fleet proxy gives to whoever connects.

All figures bound what an outsider can hold. Before TLS is agreed on, a connection costs the proxy
about 300 KiB (the buffers of its TLS engine), afterwards about the same and one piece of a body.
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_secure.federation.engines.wire import PART_BYTES

__all__ = ["MAX_BODY_BYTES", "SMALL_BODY_BYTES", "ProxyLimits", "max_body_bytes"]

# A part of a large message with Flower's frame around it: the largest thing that a SuperNode sends
# in one call.
MAX_BODY_BYTES = PART_BYTES + (64 << 10)
# The list of the parts: 64 bytes and a little each, hence for messages of 60 GiB.
_MAX_LIST_BYTES = 1 << 20
SMALL_BODY_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyLimits:
    """Times in seconds, and counts.

    handshake_s            for TLS, from the connection on
    head_s                 for a request's line and headers, from their first byte on
    idle_s                 between two requests of one connection
    body_s                 for a whole request body, at most ``MAX_BODY_BYTES``
    answer_s               for the SuperLink's answer to reach the site
    max_handshakes         connections without TLS; one more ends the oldest of them
    max_connections        connections with TLS; one more ends the one that has been idle longest
    max_per_site           connections of one client certificate
    max_uploads            large bodies that are on their way to the SuperLink at a time
    max_uploads_per_site   the same of one client certificate; a SuperNode sends two
    """

    handshake_s: float = 10.0
    head_s: float = 10.0
    idle_s: float = 20.0
    body_s: float = 300.0
    answer_s: float = 300.0
    max_handshakes: int = 32
    max_connections: int = 512
    max_per_site: int = 16
    max_uploads: int = 64
    max_uploads_per_site: int = 2


def max_body_bytes(path: bytes) -> int:
    """The longest body of a call."""
    match path:
        case b"/v1/fleet/push-object":
            return MAX_BODY_BYTES
        case b"/v1/fleet/push-messages":
            return _MAX_LIST_BYTES
        case _:
            return SMALL_BODY_BYTES
