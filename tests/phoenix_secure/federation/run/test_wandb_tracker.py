"""Weights & Biases: the same figures and marked files, on the disk alone."""

from __future__ import annotations

import getpass
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.trackers import Trackers

_TRACKED = """
import json, sys
from pathlib import Path
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.run.trackers import Trackers

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
trackers = Trackers(load_config(None, settings))
for step in map(int, sys.argv[3:]):
    trackers.round(folder, {"round_number": step, "loss": 1 / step})
    trackers.samples(folder, step=step, picture=folder / "samples.png")
quality = {"rows": {"generated": {"kid": 0.25}}}
trackers.finished(folder, step=step, quality=quality, picture=folder / "samples.png")
"""
_ONLINE = """
import wandb
wandb.init(mode="online", settings=wandb.Settings(init_timeout=3, silent=True))
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where every call would go: wandb's own server, and the proxy to anybody else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _run(program: str, *arguments: str, listener: socket.socket, cwd: Path) -> int:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    asked = {"WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": address}
    proxies = {name: address for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(
        command, env={**kept, **asked, **proxies}, cwd=cwd, timeout=300, check=False
    )
    return ended.returncode


def _has_heard(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _records(path: Path) -> list[Any]:
    """What a ``.wandb`` file holds: LevelDB's log format, after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, found, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def _points(path: Path, name: str) -> list[tuple[int, float]]:
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in (each.history for each in _records(path) if each.HasField("history"))
    ]
    return [(row["_step"], row[name]) for row in rows if name in row]


@pytest.mark.long
def test_a_run_is_tracked_offline_whatever_the_environment_asks_for(
    tiny_settings: list[str], tmp_path: Path, listener: socket.socket
) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "my run"
    folder.mkdir()
    Image.new("L", (8, 8), 7).save(folder / "samples.png", comment="marked")
    settings = json.dumps([*tiny_settings, "output.wandb=true"])
    for steps in (("1", "2"), ("3",)):  # the second process is a resumed run
        arguments = (str(folder), settings, *steps)
        assert _run(_TRACKED, *arguments, listener=listener, cwd=tmp_path) == 0
    assert not _has_heard(listener)

    first, second = sorted((folder / "wandb").glob("offline-run-*"))
    files = [next(each.glob("*.wandb")) for each in (first, second)]
    assert [_points(path, "loss") for path in files] == [[(1, 1.0), (2, 0.5)], [(3, 1 / 3)]]
    assert _points(files[0], "kid") == [(2, 0.25)]
    runs = [each.run for path in files for each in _records(path) if each.HasField("run")]
    assert {run.run_id for run in runs} == {
        json.loads((folder / "wandb.json").read_text())["run_id"]
    }
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["federation.rounds"] == 4
    assert {run.host for run in runs} == {""}
    pictures = list(first.rglob("*.png"))
    assert pictures
    for path in pictures:
        assert not path.is_symlink()
        assert path.read_bytes() == (folder / "samples.png").read_bytes()
    written = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    told = b"".join(path.read_bytes() for path in written)
    assert b"a" * 40 not in told
    for word in (socket.gethostname(), getpass.getuser()):
        assert len(word) < 5 or word.encode() not in told
    assert not [path for path in written if path.name in ("wandb-metadata.json", "output.log")]


@pytest.mark.long
def test_the_listener_would_hear_an_online_run(tmp_path: Path, listener: socket.socket) -> None:
    pytest.importorskip("wandb")
    _run(_ONLINE, listener=listener, cwd=tmp_path)
    assert _has_heard(listener)


def test_without_the_extra_the_setting_is_refused_with_the_command(
    tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = load_config(None, [*tiny_settings, "output.wandb=true"])
    with pytest.raises(ConfigError, match=r"pip install 'phoenix-secure\[wandb\]'"):
        Trackers(config)
