"""A site says why it does not reach its server: once for each fault, and when it is over."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest

from fleet_door import Door, open_door
from phoenix_secure.federation.deployment import door_watch
from phoenix_secure.federation.deployment.door_probe import probe_way
from phoenix_secure.federation.deployment.door_watch import watch_door
from phoenix_secure.federation.deployment.finding import Finding
from phoenix_secure.federation.deployment.site_folder import SiteFolder


def site_at(door: Door, root: Path) -> SiteFolder:
    """The folder of the site ``a``, as far as the way to the server needs it."""
    root.mkdir()
    for name, source in (("ca.crt", "ca.crt"), ("door.crt", "a.crt"), ("door.key", "a.key")):
        shutil.copy(door.root / source, root / name)
    return SiteFolder(root)


def test_open_way_is_looked_at_by_two_connections_and_the_clock(tmp_path: Path) -> None:
    with open_door(tmp_path, sites=("a",)) as door:
        site = site_at(door, tmp_path / "site")
        found = probe_way(f"127.0.0.1:{door.port}", site)
        assert [(each.name, each.level) for each in found] == [("door", "ok"), ("clock", "ok")]
        # Nothing of it went on to the SuperLink.
        assert door.seen == []


def test_site_that_is_not_let_in_is_told(tmp_path: Path) -> None:
    with open_door(tmp_path, sites=("a",)) as door:
        site = site_at(door, tmp_path / "site")
        shutil.copy(door.root / "server.crt", site.door_certificate)
        shutil.copy(door.root / "server.key", site.door_key)
        found = probe_way(f"127.0.0.1:{door.port}", site)
    assert [each.level for each in found] == ["bad"]


def test_closed_door_is_told_once_and_its_opening_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding(name="door", level="bad", message="nothing listens")
    other = Finding(name="clock", level="bad", message="this machine's clock is 120 s ahead")
    looks = iter([[bad], [bad], [other], [Finding(name="door", level="ok", message="fine")]])
    monkeypatch.setattr(door_watch, "probe_way", lambda address, folder: next(looks))
    said: list[str] = []
    watch_door(
        "fl.example.org:9443",
        SiteFolder(tmp_path),
        say=said.append,
        stop=threading.Event(),
        pause_s=0,
    )
    assert said == [
        "the server is not reached: nothing listens; trying on",
        "this machine's clock is 120 s ahead",
        "the server is reached now, and nothing is wrong on the way",
    ]


def test_stopped_site_looks_no_more(tmp_path: Path) -> None:
    with open_door(tmp_path, sites=("a",)) as door:
        site = site_at(door, tmp_path / "site")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said: list[str] = []
    stop = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        stop.set()

    watch_door(f"127.0.0.1:{port}", site, say=say, stop=stop)
    assert len(said) == 1
    assert f"nothing listens at 127.0.0.1:{port}" in said[0]
