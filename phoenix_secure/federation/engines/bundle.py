"""The code bundle that Flower insists on shipping to every site, and that no site ever runs.

Ours holds no code but a refusal. It is the same bytes on every machine with the same version, so
its hash can be part of what an owner approves; a server that ships anything else is refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile

__all__ = ["bundle_hash", "make_bundle"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_PROJECT = """\
[project]
name = "phoenix-secure-bundle"
version = "{version}"
description = "Nothing to run: sites run only what their owners installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "phoenix-secure"

[tool.flwr.app.components]
serverapp = "refusal:server"
clientapp = "refusal:client"
"""
_REFUSAL = '''\
"""Whoever imports this has not started Phoenix Secure's own site worker."""

raise RuntimeError("start the site with `phoenix-secure site start`: bundles are never run")
'''


def make_bundle() -> bytes:
    """A Flower App Bundle (a zip file), equal on every machine with this version."""
    version = importlib.metadata.version("phoenix-secure")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, text in (
            ("pyproject.toml", _PROJECT.format(version=version)),
            ("refusal.py", _REFUSAL),
        ):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3  # else the zip says on which system it was made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def bundle_hash(bundle: bytes) -> str:
    """The SHA-256 by which Flower and approved plans name a bundle."""
    return hashlib.sha256(bundle).hexdigest()
