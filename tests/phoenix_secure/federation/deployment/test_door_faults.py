"""Each way in which the door cannot be reached is told by its name, and with what to change."""

from __future__ import annotations

import datetime as dt
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from fleet_door import open_door
from phoenix_secure.federation.deployment import door_faults, door_probe
from phoenix_secure.federation.deployment.door_faults import explain_failure
from phoenix_secure.federation.deployment.door_probe import _clock, probe_door, probe_guard
from tls_files import make_tls_files


@contextmanager
def tls_server(root: Path, *, host: str = "127.0.0.1", now: dt.datetime | None = None) -> Iterator:
    """Something that speaks TLS with a certificate for ``host``, made at ``now``; its port."""
    made = make_tls_files(federation="f", hosts=[host], days=2, now=now)
    for name, content in (
        ("ca.crt", made.ca_certificate),
        ("server.crt", made.server_certificate),
        ("server.key", made.server_key),
    ):
        (root / name).write_bytes(content)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(root / "server.crt", root / "server.key")
    with listening(lambda plain: tls.wrap_socket(plain, server_side=True).recv(1)) as port:
        yield port


@contextmanager
def listening(answer) -> Iterator[int]:
    """A listener that hands every connection to ``answer``; its port."""
    # Every certificate is for the server's own loopback, too; 127.0.0.2 is an address like others.
    with socket.create_server(("", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain, suppress(OSError):
                    answer(plain)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


def said(address: str, ca_file: Path) -> str:
    (finding,) = probe_guard(address, ca_file)
    assert (finding.name, finding.level) == ("door", "bad")
    assert len(finding.message.splitlines()) == 1
    return finding.message


def test_certificate_for_another_name_says_both_names(tmp_path: Path) -> None:
    with tls_server(tmp_path, host="fl.example.org") as port:
        message = said(f"127.0.0.2:{port}", tmp_path / "ca.crt")
    assert "is for fl.example.org, and not for 127.0.0.2" in message
    assert "`server` of site.yaml" in message


def test_certificate_for_another_address_says_both_addresses(tmp_path: Path) -> None:
    with tls_server(tmp_path, host="192.0.2.7") as port:
        message = said(f"127.0.0.2:{port}", tmp_path / "ca.crt")
    assert "is for 192.0.2.7, and not for 127.0.0.2" in message
    with tls_server(tmp_path, host="2001:db8::7") as port:
        message = said(f"127.0.0.2:{port}", tmp_path / "ca.crt")
    assert "is for 2001:db8::7, and not for 127.0.0.2" in message


@pytest.mark.parametrize(
    ("days", "words"), [(30, "is not valid yet by this machine's clock"), (-30, "has expired by")]
)
def test_clock_outside_of_the_certificates_time_is_named(
    tmp_path: Path, days: int, words: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    with tls_server(tmp_path, now=now + dt.timedelta(days=days)) as port:
        message = said(f"127.0.0.1:{port}", tmp_path / "ca.crt")
    assert words in message
    assert f"which says {now:%Y-%m-%d}" in message
    assert "set it by NTP" in message


def test_silence_is_a_firewalls_and_no_start_of_the_server_helps(monkeypatch) -> None:
    error = TimeoutError("timed out")
    message = explain_failure("192.0.2.1:9443", error)
    assert "a firewall drops what goes to port 9443" in message
    assert "start the server" not in message
    # As an HTTP client tells it, with and without the cause.
    wrapped = httpx.ConnectTimeout("timed out")
    assert explain_failure("192.0.2.1:9443", wrapped) == message
    wrapped.__cause__ = error
    assert explain_failure("192.0.2.1:9443", wrapped) == message


def test_program_that_takes_connections_and_says_nothing_is_no_good_door(
    tmp_path: Path, monkeypatch
) -> None:
    """It was: no answer in the handshake counted as a refusal."""
    with tls_server(tmp_path):
        pass
    monkeypatch.setattr(door_probe, "_TIMEOUT_S", 0.2)
    with listening(lambda plain: plain.recv(100_000) and plain.recv(1)) as port:
        assert "no answer from" in said(f"127.0.0.1:{port}", tmp_path / "ca.crt")


def test_program_that_does_not_speak_tls_is_no_good_door(tmp_path: Path) -> None:
    with tls_server(tmp_path):
        pass
    with listening(lambda plain: plain.sendall(b"SSH-2.0-OpenSSH\r\n")) as port:
        address = f"127.0.0.1:{port}"
        assert "ended in the TLS handshake" in said(address, tmp_path / "ca.crt")
        (finding,) = probe_door(address, tmp_path / "ca.crt")
        assert "ended in the TLS handshake" in finding.message


def test_name_that_nobody_knows_is_named() -> None:
    message = explain_failure("fl.invalid:9443", socket.gaierror(-2, "Name or service not known"))
    assert "no address is known for the name fl.invalid" in message
    assert "DNS" in message


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_no_way_is_told_with_its_reason(number: int) -> None:
    message = explain_failure("192.0.2.1:9443", OSError(number, "No route to host"))
    assert "no way leads to 192.0.2.1:9443 (No route to host)" in message


@pytest.mark.parametrize(
    ("addresses", "hints"),
    [(["2001:db8::3"], True), (["2001:db8::3", "192.0.2.3"], False), (["192.0.2.3"], False)],
)
def test_closed_port_tells_addresses_and_a_server_without_ipv6(
    monkeypatch, addresses: list[str], hints: bool
) -> None:
    monkeypatch.setattr(door_faults, "_addresses", lambda host, port: addresses)
    message = explain_failure("fl.example.org:9443", ConnectionRefusedError())
    assert f"nothing listens at fl.example.org:9443 ({', '.join(addresses)})" in message
    assert "start the server" in message
    assert ("listen: '::'" in message) == hints


def test_address_itself_gets_no_hint_about_names() -> None:
    message = explain_failure("[::1]:9443", ConnectionRefusedError())
    assert message == "nothing listens at [::1]:9443: start the server"


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0, "ok", "0 s apart"),
        (120, "bad", "this machine's clock is 120 s behind the server's (5 allowed)"),
        (-120, "bad", "120 s ahead of the server's"),
    ],
)
def test_clock_says_who_is_ahead(monkeypatch, seconds: int, level: str, words: str) -> None:
    class Now(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)

    monkeypatch.setattr(door_probe.dt, "datetime", Now)
    there = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    finding = _clock(f"{there:%a, %d %b %Y %H:%M:%S} GMT")
    assert finding.level == level
    assert words in finding.message


def test_server_that_does_not_tell_its_time_is_noted() -> None:
    finding = _clock(None)
    assert (finding.name, finding.level) == ("clock", "note")


def test_clock_is_looked_at_behind_a_real_door(tmp_path: Path) -> None:
    with open_door(tmp_path, sites=("a",)) as door:
        own = (tmp_path / "a.crt", tmp_path / "a.key")
        found = probe_door(f"127.0.0.1:{door.port}", tmp_path / "ca.crt", own)
    assert ("clock", "ok") in [(each.name, each.level) for each in found]
