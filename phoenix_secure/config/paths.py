"""Makes the paths in settings absolute, so that they mean the same from every working directory."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any, TypeVar

from phoenix_secure.config.section import Section
from phoenix_secure.extensions import ExtensionPoint, extension_names

__all__ = ["absolute_path", "with_absolute_paths"]

_SectionT = TypeVar("_SectionT", bound=Section)


def absolute_path(text: str, *, folder: Path) -> str:
    """``text`` with ``~`` expanded, below ``folder`` if it is relative; an address with ``://`` and
    the hash of a kept model (``sha256:``) stay as they are."""
    is_address = "://" in text or text.startswith("sha256:")
    return text if is_address else str(folder / os.path.expanduser(text))


def with_absolute_paths(section: _SectionT, *, folder: Path) -> _SectionT:
    """``section`` with every setting whose description begins with ``[path]`` made absolute.

    The path of an installed data source may be anything: it stays unless something lies there.
    """
    own = getattr(section, "name", None) in extension_names(ExtensionPoint.DATA_SOURCE)
    changes: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            changes[name] = with_absolute_paths(value, folder=folder)
        elif isinstance(value, str) and (field.description or "").startswith("[path]"):
            found = absolute_path(value, folder=folder)
            changes[name] = value if own and not Path(found).exists() else found
    return section.model_copy(update=changes)
