"""The checks of ``doctor``, each a small function that never raises."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch
from packaging.requirements import Requirement

from phoenix_secure.data.cache import cached_path, default_cache_dir
from phoenix_secure.device import num_cores
from phoenix_secure.errors import PhoenixError
from phoenix_secure.metrics.features import efficientnet_lite0

__all__ = ["Check", "all_checks"]

_GIB = 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding: fine, worth knowing, or in the way."""

    name: str
    level: Literal["ok", "note", "bad"]
    message: str


def all_checks() -> list[Check]:
    """Every check, in the order a reader expects."""
    return [
        _python(),
        _libraries(),
        _processors(),
        _memory(),
        _disk(Path.cwd()),
        _weights(),
        *_data_sets(),
        _clients(),
    ]


def _python() -> Check:
    version = f"{platform.python_version()} on {platform.system()}"
    return Check(name="python", level="ok", message=version)


def _libraries() -> Check:
    """Compare what is installed with what the package itself declares."""
    wrong = []
    for text in importlib.metadata.requires("phoenix-secure") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    if wrong:
        fix = "; run `pip install -e . -c constraints.txt`"
        return Check(name="libraries", level="bad", message="; ".join(wrong) + fix)
    return Check(name="libraries", level="ok", message=f"as declared; torch {torch.__version__}")


def _processors() -> Check:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check(name="processors", level="ok", message=f"CUDA: {', '.join(names)}")
    message = f"{num_cores()} CPU cores, no CUDA: use the presets tiny or small"
    return Check(name="processors", level="note", message=message)


def _memory() -> Check:
    free = psutil.virtual_memory().available / _GIB
    level: Literal["ok", "bad"] = "ok" if free >= 2 else "bad"
    return Check(name="memory", level=level, message=f"{free:.1f} GiB free (2 needed)")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / _GIB
    if not os.access(folder, os.W_OK):
        return Check(name="disk", level="bad", message=f"{folder} cannot be written")
    level: Literal["ok", "bad"] = "ok" if free >= 1 else "bad"
    return Check(name="disk", level=level, message=f"{free:.1f} GiB free here (1 needed)")


def _weights() -> Check:
    try:
        extractor = efficientnet_lite0(device=torch.device("cpu"))
    except PhoenixError as error:
        return Check(name="weights", level="bad", message=str(error))
    return Check(name="weights", level="ok", message=f"{extractor.name}, checksum as published")


def _data_sets() -> list[Check]:
    checks = [Check(name="data", level="ok", message="mnist-5k and digits are built in")]
    for name in ("fashion-mnist", "mnist", "cifar10"):
        if cached_path(name, cache_dir=default_cache_dir()).exists():
            checks.append(Check(name="data", level="ok", message=f"{name} is cached"))
        else:
            message = f"{name} is not cached: `phoenix-secure data fetch {name}`"
            checks.append(Check(name="data", level="note", message=message))
    return checks


def _clients() -> Check:
    found = [client for client in ("apt-get", "npm") if shutil.which(client)]
    if not found:
        message = "neither apt-get nor npm: data sets come from Hugging Face or your own files"
        return Check(name="clients", level="note", message=message)
    return Check(name="clients", level="ok", message=f"{', '.join(found)} can fetch data sets")
