"""The lines of a run's ``metrics.jsonl``, one a round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phoenix_secure.errors import CheckpointError

__all__ = ["read_metrics"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines, oldest first; none where there is no file.

    A process that was killed may have left part of a last line: it is left out.

    Raises:     CheckpointError for a line that is damaged otherwise: a round would be missing.
    """
    if not path.exists():
        return []
    try:
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").split("\n")[:-1]]
        for values in lines:
            values["round_number"] += 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged: restore it from a copy, or delete the line that is not JSON"
        ) from error
    return lines
