"""The packages that read medical files: the extra ``medical``."""

from __future__ import annotations

import importlib.util

from phoenix_secure.errors import DataError

__all__ = ["can_read", "require_medical"]

_PACKAGES = {"DICOM": "pydicom", "NIfTI": "nibabel"}


def can_read(kind: str) -> bool:
    """Whether the package that reads ``kind`` (DICOM, NIfTI) is installed."""
    package = _PACKAGES.get(kind)
    return package is not None and importlib.util.find_spec(package) is not None


def require_medical(kind: str, *, name: str) -> None:
    """Refuse a file whose reader is not installed.

    Raises:     DataError naming file and command.
    """
    if not can_read(kind):
        raise DataError(
            f"{name} is a {kind} file, which needs an extra package: "
            "pip install 'phoenix-secure[medical]'"
        )
