"""Whoever connects to the server and wants nothing but its time and memory.

Until 0.1.0 the Fleet proxy waited a minute for a TLS handshake and for ever for a request, kept any
number of connections, and held a body of 16 MiB of every stranger before anybody looked at it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_door import PULL, Door, open_door, wait_until
from phoenix_secure.federation.deployment.proxy_limits import MAX_BODY_BYTES, ProxyLimits

pytestmark = pytest.mark.long

BRIEF = ProxyLimits(
    handshake_s=0.5,
    head_s=0.5,
    idle_s=0.5,
    body_s=0.5,
    max_handshakes=8,
    max_connections=6,
    max_per_site=3,
    max_uploads=2,
    max_uploads_per_site=1,
)
PUSH = b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Door]:
    """Open to everybody, as the doors of federations that were made by 0.1.0 are."""
    with open_door(tmp_path_factory.mktemp("open"), limits=BRIEF) as found:
        yield found


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Iterator[Door]:
    """Ends nobody for being slow, so that what ends is for want of places."""
    limits = dataclasses.replace(BRIEF, handshake_s=30, head_s=30)
    with open_door(tmp_path_factory.mktemp("patient"), limits=limits) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Door]:
    """Open to holders of a certificate."""
    root = tmp_path_factory.mktemp("guarded")
    with open_door(root, limits=BRIEF, sites=("a", "b")) as found:
        yield found


def is_served(door: Door, site: str | None = None) -> bool:
    with door.client(site) as client:
        return client.post(PULL, content=b"ping").status_code == 200


def is_closed(connection, *, seconds: float = 5.0) -> bool:
    """Whether the other end hangs up in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_silence_in_place_of_tls_ends_soon(door: Door) -> None:
    with door.knock() as connection:
        assert is_closed(connection)


def test_flood_of_silent_connections_throws_out_itself(patient: Door) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(patient.knock()) for _ in range(10 * BRIEF.max_handshakes)]
        assert is_served(patient)
        # The honest handshake took the place of one more.
        assert all(is_closed(each) for each in silent[: 1 - BRIEF.max_handshakes])


@pytest.mark.parametrize("said", [b"", b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost:"])
def test_request_that_never_comes_to_its_end_is_given_up(door: Door, said: bytes) -> None:
    with door.connection() as connection:
        connection.sendall(said)
        assert is_closed(connection)


def test_request_that_comes_byte_by_byte_is_given_up(door: Door) -> None:
    started = time.monotonic()
    with door.connection() as connection, contextlib.suppress(OSError):
        for byte in b"POST /v1/fleet/pull-messages HTTP/1.1\r\n" + b"a: b\r\n" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - started < 5


def test_body_that_never_comes_to_its_end_is_given_up(door: Door) -> None:
    with door.connection() as connection:
        connection.sendall(PUSH % MAX_BODY_BYTES + bytes(1000))
        assert is_closed(connection)
    assert is_served(door)


def test_connection_that_is_kept_for_nothing_is_given_up(door: Door) -> None:
    with door.connection() as connection:
        connection.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " in connection.recv(4096)
        assert is_closed(connection)


def test_more_connections_than_places_end_the_idlest(patient: Door) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(patient.connection()) for _ in range(2 * BRIEF.max_connections)]
        assert is_served(patient)
        assert all(is_closed(each) for each in idle[: BRIEF.max_connections + 1])


def test_stranger_without_certificate_does_not_get_past_tls(guarded: Door) -> None:
    guarded.seen.clear()
    # The server refuses after the client's last word: it shows when the client listens.
    with pytest.raises((httpx.HTTPError, ssl.SSLError)):
        is_served(guarded)
    assert guarded.seen == []
    assert is_served(guarded, "a")


def test_certificate_of_another_authority_is_none(guarded: Door, tmp_path: Path) -> None:
    with open_door(tmp_path, sites=("a",)):
        pass
    (guarded.root / "x.crt").write_bytes((tmp_path / "a.crt").read_bytes())
    (guarded.root / "x.key").write_bytes((tmp_path / "a.key").read_bytes())
    with pytest.raises((httpx.HTTPError, ssl.SSLError)):
        is_served(guarded, "x")


def test_servers_own_certificate_opens_no_door(guarded: Door) -> None:
    with pytest.raises((httpx.HTTPError, ssl.SSLError)):
        is_served(guarded, "server")


def test_body_that_is_too_long_is_refused_by_its_announcement(door: Door) -> None:
    with door.connection() as connection:
        connection.sendall(PUSH % (600 << 20))
        assert b" 413 " in connection.recv(4096)


def test_one_site_takes_no_more_than_its_places(guarded: Door) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(BRIEF.max_per_site):
            stack.enter_context(guarded.connection("a"))
        assert wait_until(lambda: not served_or_dropped(guarded, "a"))
        assert is_served(guarded, "b")


def served_or_dropped(door: Door, site: str) -> bool:
    try:
        return is_served(door, site)
    except httpx.HTTPError:
        return False


def test_one_site_that_uploads_slowly_holds_up_itself_alone(guarded: Door) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            slow = stack.enter_context(guarded.connection("a"))
            slow.sendall(PUSH % MAX_BODY_BYTES + b"x")
        started = time.monotonic()
        with guarded.client("b") as client:
            answer = client.post("/v1/fleet/push-object", content=bytes(100_000))
        assert answer.status_code == 200
        assert time.monotonic() - started < BRIEF.body_s
