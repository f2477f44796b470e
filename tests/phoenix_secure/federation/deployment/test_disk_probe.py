"""A disk that is nearly full is told with its folder and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phoenix_secure.federation.deployment.disk_probe import probe_disk


@pytest.mark.parametrize(("free", "level"), [(1024**3, "ok"), (1024**3 - 1, "bad"), (0, "bad")])
def test_room_below_one_gibibyte_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    finding = probe_disk(tmp_path)
    assert (finding.name, finding.level) == ("disk", level)
    assert f"on the disk of {tmp_path}" in finding.message
    assert ("make room" in finding.message) == (level == "bad")
