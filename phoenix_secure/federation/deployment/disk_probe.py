"""Whether a party's disk has room for what it will have to keep."""

from __future__ import annotations

import shutil
from pathlib import Path

from phoenix_secure.federation.deployment.finding import Finding

__all__ = ["probe_disk"]

_GIB = 1024**3


def probe_disk(folder: Path) -> Finding:
    """The room on the disk of ``folder``."""
    free = shutil.disk_usage(folder).free / _GIB
    message = f"{free:.1f} GiB free on the disk of {folder} (1 needed)"
    if free >= 1:
        return Finding(name="disk", level="ok", message=message)
    message += ": make room, or move the folder to another disk"
    return Finding(name="disk", level="bad", message=message)
