"""Parts of the harness of namespaces that need no root; and, where root is there, the ceremony."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import secrets
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from benchmark_modules import BENCHMARKS, benchmark_module
from command_line import script
from tls_files import pem


@pytest.fixture(scope="module")
def hosts() -> Iterator[ModuleType]:
    with benchmark_module("hosts") as found:
        yield found


@pytest.fixture(scope="module")
def canaries(hosts: ModuleType) -> ModuleType:
    return sys.modules["hosts_canaries"]


@pytest.fixture(scope="module")
def relay() -> Iterator[ModuleType]:
    with benchmark_module("hosts_relay") as found:
        yield found


def test_table_has_a_row_for_each_step_and_numbers_on_the_right(hosts: ModuleType) -> None:
    steps = sys.modules["hosts_steps"].Steps(lambda line: None)
    with steps.step("found") as what:
        what += ["epoch 1", "a|b"]
    (row,) = steps.rows
    assert row.seconds < 5
    assert hosts.table(steps.rows).splitlines() == [
        "| step | seconds | cpu_seconds | what |",
        "| --- | ---: | ---: | --- |",
        f"| found | {row.seconds:.1f} | {row.cpu_seconds:.1f} | epoch 1; a\\|b |",
    ]


def test_processor_seconds_hold_those_of_ended_processes(hosts: ModuleType) -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    before = sys.modules["hosts_steps"].cpu_seconds()
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert sys.modules["hosts_steps"].cpu_seconds() >= before + 0.5


def test_what_does_not_name_a_fault_is_no_name_of_it(hosts: ModuleType) -> None:
    names_it = sys.modules["hosts_faults"].names_it
    said = [{"name": "door", "level": "bad", "message": "a firewall drops what goes to port 9443"}]
    assert names_it("firewall drops", said)
    assert not names_it("certificate", said)
    # What is in order names nothing.
    assert not names_it("firewall drops", [said[0] | {"level": "ok"}])


def test_without_root_the_benchmark_says_why_it_does_not_run(
    hosts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespaces = sys.modules["hosts_namespaces"]
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    assert "need root" in namespaces.reason_against()
    done = script(BENCHMARKS / "hosts.py")
    assert done.code == 2
    assert "need root" in done.err


PEM = pem(ec.generate_private_key(ec.SECP256R1()))
RAW = secrets.token_bytes(32)
FORMS = {
    "as it is": lambda secret: secret,
    "in the middle": lambda secret: b"{" + secret + b"}",
    "hexadecimal": lambda secret: secret.hex().encode(),
    "HEXADECIMAL": lambda secret: secret.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 behind one byte": lambda secret: base64.b64encode(b"x" + secret),
    "base64 behind two bytes": lambda secret: base64.b64encode(b"xy" + secret + b"z"),
    "base64 for addresses": lambda secret: base64.urlsafe_b64encode(secret),
    "base64 in lines": base64.encodebytes,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [RAW, PEM], ids=["raw", "PEM"])
def test_search_finds_a_planted_secret_in_every_form(
    canaries: ModuleType, tmp_path: Path, form: str, secret: bytes
) -> None:
    for party in ("clinic", "server"):
        (tmp_path / party / "logs").mkdir(parents=True)
    (tmp_path / "clinic" / "identity.key").write_bytes(secret)
    planted = tmp_path / "server" / "logs" / "log"
    places = {party: tmp_path / party for party in ("clinic", "server")}
    held = {"clinic": canaries.secrets_of(places["clinic"])}
    planted.write_bytes(secrets.token_bytes(5000))
    finds, count = canaries.search(places, held)
    assert count == 2
    assert [find.holder for find in finds] == ["clinic"]  # and only there
    planted.write_bytes(b"some text " + FORMS[form](secret) + b" and more")
    finds, _ = canaries.search(places, held)
    assert {(find.owner, find.holder) for find in finds} == {
        ("clinic", "clinic"),
        ("clinic", "server"),
    }


def test_search_finds_what_is_left_of_a_pem_file(canaries: ModuleType, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "node.key").write_bytes(pem(key))
    held = {"site": canaries.secrets_of(tmp_path)}
    number = key.private_numbers().private_value.to_bytes(48, "big")
    escaped = json.dumps({"key": pem(key).decode()}).encode()
    for name, content in (("number", number), ("escaped", escaped)):
        (tmp_path / name).write_bytes(content)
        finds, _ = canaries.search({"server": tmp_path / name}, held)
        assert [find.secret for find in finds] == ["node.key"], name
    public = key.public_key().public_numbers().x.to_bytes(48, "big")
    (tmp_path / "public").write_bytes(public)
    assert canaries.search({"server": tmp_path / "public"}, held)[0] == []


def test_search_looks_into_archives(canaries: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000) + RAW + bytes(1000))
    (find,) = canaries.search({"server": tmp_path}, {"site": {"identity.key": RAW}})[0]
    assert find.file == "run.npz"


@contextlib.asynccontextmanager
async def through(relay: ModuleType, **line: float):
    """Reader and writer of an echo behind the relay."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    to = server.sockets[0].getsockname()[:2]
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(
        relay.serve(listener, to=to, line=relay.Line(**line), rng=random.Random(0))  # noqa: S311
    )
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        serving.cancel()
        server.close()


def test_relay_delays_each_way_and_changes_nothing(relay: ModuleType) -> None:
    sent = secrets.token_bytes(100_000)

    async def measure(**line: float) -> float:
        async with through(relay, **line) as (reader, writer):
            started = time.monotonic()
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.write_eof()
            assert await reader.read() == b""
            return time.monotonic() - started

    # There and back with the bytes, and once more with the end.
    assert asyncio.run(measure(delay_s=0.15)) >= 4 * 0.15
    assert asyncio.run(measure(stall=0.5, stall_s=0.3)) >= 0.3


def test_relay_cuts_connections(relay: ModuleType) -> None:
    async def talk() -> None:
        async with through(relay, cut=0.5) as (reader, writer):
            for _ in range(100):
                writer.write(b"x")
                await writer.drain()
                if not await reader.read(1):
                    raise ConnectionResetError

    with pytest.raises(ConnectionError):
        asyncio.run(talk())


@pytest.mark.parametrize("line", [{"cut": 1.0}, {"stall": -0.1}, {"delay_s": -1.0}])
def test_relay_refuses_a_line_that_cannot_be(relay: ModuleType, line: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        relay.Line(**line)


@pytest.mark.slow
def test_ceremony_between_namespaces_leaves_no_secret_with_others(hosts: ModuleType) -> None:
    if (reason := sys.modules["hosts_namespaces"].reason_against()) is not None:
        pytest.skip(f"not run: {reason}")
    done = script(BENCHMARKS / "hosts.py", "--json")
    assert done.code == 0, done.err
