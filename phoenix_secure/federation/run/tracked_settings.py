"""The settings of a run as trackers show them: dotted names, plain values."""

from __future__ import annotations

import json
from typing import Any

from phoenix_secure.config import RunConfig

__all__ = ["tracked_settings"]


def tracked_settings(config: RunConfig) -> dict[str, bool | float | str]:
    """Every setting by its dotted name; lists and empty values as JSON."""
    return _flat(config.model_dump(mode="json"), prefix="")


def _flat(values: dict[str, Any], *, prefix: str) -> dict[str, bool | float | str]:
    found: dict[str, bool | float | str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, prefix=f"{prefix}{name}.")
        else:
            is_plain = isinstance(value, bool | int | float | str)
            found[prefix + name] = value if is_plain else json.dumps(value)
    return found
