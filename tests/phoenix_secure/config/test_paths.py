"""Which text in a setting is a path below the working directory, and which is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.config.paths import absolute_path

HERE = Path("/srv/here")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("scans", "/srv/here/scans"),
        ("./scans", "/srv/here/scans"),
        ("/data/scans", "/data/scans"),
        ("hf://owner/name", "hf://owner/name"),
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32),
        ("owner/name", "/srv/here/owner/name"),
    ],
)
def test_addresses_and_hashes_stay_and_paths_become_absolute(text: str, meant: str) -> None:
    assert absolute_path(text, folder=HERE) == meant


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert absolute_path("~/scans", folder=HERE) == "/home/somebody/scans"
