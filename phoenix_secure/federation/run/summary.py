"""What a finished run says of its rounds as a whole, from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phoenix_secure.federation.secagg.terms import SecureTerms

__all__ = ["aggregation_summary", "totals"]

Lines = Sequence[dict[str, Any]]


def totals(metrics: Lines) -> dict[str, Any]:
    """Bytes, seconds, and the last loss (None where the sites tell none)."""
    return {
        "bytes_down": sum(line["bytes_down"] for line in metrics),
        "bytes_up": sum(line["bytes_up"] for line in metrics),
        "training_seconds": sum(line["seconds"] for line in metrics),
        "loss": metrics[-1]["loss"] if metrics else None,
    }


def aggregation_summary(metrics: Lines, *, terms: SecureTerms | None) -> dict[str, Any]:
    """How the updates were summed; loudly, where the server saw each of them."""
    if terms is None:
        return {
            "secure_aggregation": "off",
            "warning": "secure aggregation was off: the server saw every site's update",
        }
    rounds = [line["secure"] for line in metrics]
    clipped = None if terms.hides_metrics else sum(line["clipped"] for line in rounds)
    return {
        "secure_aggregation": "on",
        "secure": {
            **terms.to_dict(),
            "clipped_updates": clipped,
            "failed_attempts": sum(line["attempts"] - 1 for line in rounds),
            "last_transcript": rounds[-1]["transcript"] if rounds else None,
        },
    }
