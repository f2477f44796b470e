"""Finds plans that are nearly one which a site has approved already, and says where they differ.

Two trainings on the same images tell more than one, and two that differ in a harmless setting tell
nothing that the server needs. Whoever signs the second one should see the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.run.plan import Plan

__all__ = ["SimilarPlan", "similar_plans"]

_FEW = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarPlan:
    """An earlier plan, and the settings in which another one differs: name -> earlier, now."""

    plan: str
    differences: dict[str, tuple[Any, Any]]

    @property
    def warning(self) -> str:
        """One line for whoever is about to sign."""
        changed = ", ".join(
            f"{name} {_text(before)} -> {_text(after)}"
            for name, (before, after) in self.differences.items()
        )
        return (
            f"nearly plan {self.plan[:16]}, which this site approved or trained under: the same "
            f"images and seed, and other settings only in {changed or 'nothing'}. A second "
            "training on the same images tells more about them"
        )


def similar_plans(plan: Plan, approved: Iterable[Plan]) -> list[SimilarPlan]:
    """Those of ``approved`` with the data and the seed of ``plan`` and at most ten other settings.

    Settings of the output folder count: they are what changes where nothing else has to.
    """
    found = []
    for other in approved:
        if other.hash == plan.hash:
            continue
        ours, theirs = _flat(plan.config), _flat(other.config)
        differences = {
            name: (theirs.get(name), ours.get(name))
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        }
        is_same = not any(name == "seed" or name.startswith("data.") for name in differences)
        if is_same and len(differences) <= _FEW:
            found.append(SimilarPlan(plan=other.hash, differences=differences))
    return found


def _flat(config: RunConfig) -> dict[str, Any]:
    """Every setting under its dotted name."""

    def walk(prefix: str, values: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from walk(f"{prefix}{name}.", value)
            else:
                yield f"{prefix}{name}", value

    return dict(walk("", config.model_dump(mode="json")))


def _text(value: Any) -> str:
    return "(none)" if value is None else str(value)
