"""The lock with hashes holds the versions that are tested, and a hash for everything."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# What PyPI's build of torch needs and the one for CPUs does not; `venv` brings setuptools along.
UNTESTED = re.compile(r"nvidia-.*|triton|cuda-.*|setuptools")


def versions(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.split("--hash")[0].rstrip(" \\"))
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return found


def test_the_lock_names_the_tested_versions() -> None:
    tested = versions((ROOT / "constraints.txt").read_text())
    locked = versions((ROOT / "requirements.lock").read_text())
    assert {"torch", "flwr", "cryptography", "syft", "weasyprint", "datasets"} <= set(locked)
    for name, version in locked.items():
        if not UNTESTED.fullmatch(name):
            assert tested.get(name) == version, f"{name}: run make lock"


def test_everything_in_the_lock_has_a_hash() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text())[1:]
    assert len(entries) > 150
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
