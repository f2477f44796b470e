"""The server's door over real TLS: Fleet calls pass, everything else ends here."""

from __future__ import annotations

import datetime as dt
import email.utils
from pathlib import Path

import httpx
import pytest

from fleet_door import PULL, open_door
from phoenix_secure.federation.deployment.proxy_limits import max_body_bytes


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with open_door(tmp_path_factory.mktemp("door")) as found:
        yield found


@pytest.fixture
def client(door):
    door.seen.clear()
    with door.client() as found:
        yield found


def test_fleet_calls_pass_with_flowers_headers_and_no_others(door, client) -> None:
    answer = client.post(
        "/v1/fleet/pull-messages",
        content=b"ping",
        headers={"flwr-public-key": "k", "cookie": "c", "x-forwarded-for": "1.2.3.4"},
    )
    assert (answer.status_code, answer.content) == (200, b"pong")
    assert answer.headers["flwr-answer"] == "yes"
    assert "set-cookie" not in answer.headers
    ((path, headers, body),) = door.seen
    assert (path, body, headers["flwr-public-key"]) == ("/v1/fleet/pull-messages", b"ping", "k")
    assert not {"cookie", "x-forwarded-for"} & headers.keys()


def test_refusals_of_the_superlink_come_through(door, client) -> None:
    assert client.post(PULL, content=b"stranger").status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/health",
        "/docs",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages?x=1",
        "/V1/FLEET/pull-messages",
        "//v1/fleet/pull-messages",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol%2flist-nodes",
        "/v1/fleet/pull%2dmessages",
        "/v1/fleet/pull-messages%00",
        "/v1/fleet/pull-messages;/../../control/list-nodes",
        "http://127.0.0.1/v1/control/list-nodes",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_everything_else_ends_at_the_proxy(door, target: str, method: str) -> None:
    """As raw bytes, because clients tidy paths up."""
    door.seen.clear()
    with door.connection() as connection:
        head = f"{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close"
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = connection.recv(4096).split(b" ", 2)[1]
    assert answer in {b"400", b"403", b"404", b"405"}
    assert door.seen == []


def test_refusal_tells_the_servers_time(door, client) -> None:
    """Without it no site would find out that its clock is off: refusals are all that it sees."""
    told = email.utils.parsedate_to_datetime(client.post("/health").headers["date"])
    assert abs((dt.datetime.now(dt.UTC) - told).total_seconds()) < 5


def test_other_methods_are_refused_on_fleet_paths(door, client) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/v1/fleet/pull-messages").status_code in {403, 405}
    assert door.seen == []


def test_body_of_unknown_length_is_refused(door, client) -> None:
    assert client.post(PULL, content=iter([b"x"])).status_code == 411
    assert door.seen == []


def test_length_that_is_announced_is_refused_before_a_byte_of_it(door, client) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    for path in (b"/v1/fleet/push-object", b"/v1/fleet/push-messages", PULL.encode()):
        with door.connection() as connection:
            connection.sendall(head % (path, max_body_bytes(path) + 1))
            assert connection.recv(4096).split(b" ", 2)[1] == b"413"
    assert door.seen == []


def test_bodies_pass_whole_and_one_connection_carries_many(door, client) -> None:
    bodies = [bytes([number]) * size for number, size in enumerate((0, 1, 70_000, 2 << 20))]
    for body in bodies:
        answer = client.post("/v1/fleet/push-object", content=body)
        assert (answer.status_code, answer.content) == (200, b"pong")
    assert [body for _, _, body in door.seen] == bodies
    assert not any("cookie" in headers for _, headers, _ in door.seen)


def test_continue_is_said_to_who_waits_for_it(door, client) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
    with door.connection() as connection:
        connection.sendall(head % PULL.encode())
        assert connection.recv(4096).split(b" ", 2)[1] == b"100"
        connection.sendall(b"ping")
        assert connection.recv(4096).split(b" ", 2)[1] == b"200"
    assert door.seen[0][2] == b"ping"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST " + b"/" * 40_000,
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5_000,
    ],
)
def test_what_is_no_request_is_refused(door, client, raw: bytes) -> None:
    with door.connection() as connection:
        connection.sendall(raw)
        answer = connection.recv(4096)
    assert answer[:10] in {b"HTTP/1.1 4"}
    assert door.seen == []
    assert client.post(PULL, content=b"x").status_code == 200


def test_absent_superlink_is_a_plain_502(tmp_path: Path) -> None:
    with open_door(tmp_path, stays=False) as door, door.client() as client:
        assert client.post(PULL).status_code == 502
        assert client.post(PULL).status_code == 502


def test_answer_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    with open_door(tmp_path) as door, door.client() as client:
        with pytest.raises(httpx.HTTPError):
            client.post(PULL, content=b"break off")
        assert client.post(PULL, content=b"x").status_code == 200


def test_certificate_of_a_site_that_left_the_roster_passes_nothing_any_more(
    tmp_path: Path,
) -> None:
    """It holds for months; the very connection that was open when the roster changed is closed."""
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    for site in ("clinic", "hospital"):
        (nodes / f"{site}.pub").touch()
    with open_door(tmp_path, sites=("clinic", "hospital", "never"), nodes=nodes) as door:
        with door.client("clinic") as clinic, door.client("hospital") as hospital:
            assert clinic.post(PULL, content=b"x").status_code == 200
            (nodes / "clinic.pub").unlink()
            refused = clinic.post(PULL, content=b"x")
            assert (refused.status_code, refused.text) == (403, "not in the roster\n")
            assert hospital.post(PULL, content=b"x").status_code == 200
            (nodes / "clinic.pub").touch()  # resumed
            assert clinic.post(PULL, content=b"x").status_code == 200
        with door.client("never") as never:
            assert never.post(PULL, content=b"x").status_code == 403
        assert len(door.seen) == 3
