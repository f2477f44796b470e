"""Privacy spent by a whole sweep on the same images: choosing the best point is a release too.

Every point was trained on the same images, and the choice among them looks at all of their
results. So the images' owners have spent the composition over all points, not the epsilon of the
point that is shown in the end. Cheaper bounds for the choice of one among many exist (Liu and
Talwar 2019; Papernot and Steinke 2022), but they need the number of points to be drawn at random
and secret; a grid is neither, and they are not applied here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.store import PointFolder, SweepFolder

__all__ = ["privacy_spent"]


def privacy_spent(points: Sequence[Point], *, folder: SweepFolder) -> dict[str, Any] | None:
    """Basic composition over the points that have run: sums of epsilon and of delta.

    Points are added up for one data set, unit and adjacency. A point without a guarantee makes the
    total infinite. Evaluation and audits read images that no point was trained on, and training
    images in audits only: these figures are for their owner and count as release when published.

    Source:     Dwork and Roth (2014), Theorem 3.16 (composition of (epsilon, delta)).
    Returns:    None when nothing has run.
    """
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    unprotected = 0
    for point in points:
        files = folder.point(point)
        summary = PointFolder(files.run).read("summary.json")
        if summary is None:
            # A run that was started has looked at the images, whatever became of it.
            unprotected += files.run.exists() and point.config.privacy.unit == "none"
            continue
        guarantee = summary.get("guarantee") or {}
        if guarantee.get("epsilon") is None:
            unprotected += 1
            continue
        data = point.config.data
        name = f"{data.name} {data.path or ''} {data.max_images or 'all'}".strip()
        key = name, str(guarantee.get("unit")), str(guarantee.get("adjacency"))
        groups[key].append((float(guarantee["epsilon"]), float(guarantee["delta"])))
    if not groups and not unprotected:
        return None
    totals = [
        {
            "data": data,
            "unit": unit,
            "adjacency": adjacency,
            "points": len(spent),
            "epsilon": math.fsum(epsilon for epsilon, _ in spent),
            "delta": math.fsum(delta for _, delta in spent),
        }
        for (data, unit, adjacency), spent in sorted(groups.items())
    ]
    return {
        "composition": "basic: sums of epsilon and delta",
        "totals": totals,
        "points_without_guarantee": unprotected,
        "words": _words(totals, unprotected),
    }


def _words(totals: Sequence[dict[str, Any]], unprotected: int) -> str:
    parts = [
        f"{total['points']} points with a guarantee per {total['unit']} on {total['data']} add up "
        f"to epsilon {total['epsilon']:.4g}, delta {total['delta']:.2g} ({total['adjacency']})."
        for total in totals
    ]
    if unprotected:
        parts.append(
            f"{unprotected} points have no guarantee: with their results the total is unbounded."
        )
    parts.append(
        "Who publishes a point that was chosen by comparing them has spent all of it, and not the "
        "epsilon of that point alone."
    )
    return " ".join(parts)
