"""Privacy spent by a whole sweep on the same images: choosing the best point is a release too.

Every point was trained on the same images, and the choice among them looks at all of their
results. So the images' owners have spent the composition over all points, not the epsilon of the
point that is shown in the end. A point that crashed, or that the sweep no longer names, has spent
what its sites' ledgers say. Cheaper bounds for the choice of one among many exist (Liu and
Talwar 2019; Papernot and Steinke 2022), but they need the number of points to be drawn at random
and secret; a grid is neither, and they are not applied here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.config.images import OWN_DATA
from phoenix_secure.config_file import load_written
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.store import PointFolder, SweepFolder
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.guarantee import Guarantee
from phoenix_secure.privacy.ledger import PrivacyLedger

__all__ = ["privacy_spent"]

# Bundled and published sets that are parts of one collection of images.
_FAMILIES = {"mnist-5k": "mnist"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spent:
    """One point's part; ``epsilon`` None where nothing bounds it."""

    data: str
    unit: str
    adjacency: str
    epsilon: float | None
    delta: float
    is_finished: bool


def privacy_spent(points: Sequence[Point], *, folder: SweepFolder) -> dict[str, Any] | None:
    """Basic composition over the points that have run: sums of epsilon and of delta.

    Points are added up for one data set and unit; their sum holds under the conditions of all of
    them. Parts of one data set (``data.max_images``, ``data.fraction``) are that data set, and all
    sets that a user brings count as one: nothing shows that they share no image. A point without a
    guarantee makes the total infinite. Evaluation
    and audits read images that no point was trained on, and training images in audits only: these
    figures are for their owner and count as release when published.

    Source:     Dwork and Roth (2014), Theorem 3.16 (composition of (epsilon, delta)).
    Returns:    None when nothing has run.
    Raises:     CheckpointError where a site's ledger is damaged.
    """
    found = list(_spent_by_points(points, folder))
    if not found:
        return None
    groups: dict[tuple[str, str], list[_Spent]] = defaultdict(list)
    for each in found:
        if each.epsilon is not None:
            groups[each.data, each.unit].append(each)
    unprotected = sum(each.epsilon is None for each in found)
    totals = [
        {
            "data": data,
            "unit": unit,
            "adjacency": _under_all_conditions({each.adjacency for each in spent}),
            "points": len(spent),
            "not_finished": sum(not each.is_finished for each in spent),
            "epsilon": math.fsum(each.epsilon or 0.0 for each in spent),
            "delta": math.fsum(each.delta for each in spent),
        }
        for (data, unit), spent in sorted(groups.items())
    ]
    return {
        "composition": "basic: sums of epsilon and delta",
        "totals": totals,
        "points_without_guarantee": unprotected,
        "words": _words(totals, unprotected),
    }


def _spent_by_points(points: Sequence[Point], folder: SweepFolder) -> Iterator[_Spent]:
    configs = {point.name: point.config for point in points}
    for files in folder.point_folders():
        config = _config(files, configs.get(files.path.name))
        if config is not None:
            spent = _spent_by(files, config)
            if spent is not None:
                yield spent


def _config(files: PointFolder, config: RunConfig | None) -> RunConfig | None:
    """The settings that the point's run was started with."""
    if not files.run.exists():
        return None
    try:
        return load_written(files.run / "config.yaml")
    except (CheckpointError, ConfigError):
        return config  # a run that was killed before it wrote them has read the images all the same


def _spent_by(files: PointFolder, config: RunConfig) -> _Spent | None:
    summary = files.run_summary()
    stated = {} if summary is None else summary.get("guarantee") or {}
    privacy = config.privacy
    unit = str(stated.get("unit") or privacy.unit)
    epsilon, delta = stated.get("epsilon"), stated.get("delta") or privacy.delta
    if summary is None and privacy.unit != "none" and privacy.noise_source == "secure":
        epsilon = _charged(files.run, delta=privacy.delta)
        if epsilon is None:
            return None
    return _Spent(
        data=_data(config),
        unit=unit,
        adjacency=str(stated.get("adjacency") or Guarantee(unit=unit).adjacency),
        epsilon=None if epsilon is None else float(epsilon),
        delta=float(delta),
        is_finished=summary is not None,
    )


def _charged(run: Path, *, delta: float) -> float | None:
    """The largest epsilon in the ledgers of a run that did not end; None where none charged."""
    ledgers = [PrivacyLedger(path) for path in sorted(run.glob("sites/*/privacy.jsonl"))]
    spent = [epsilon_of(events, delta=delta).value for each in ledgers if (events := each.events())]
    return max(spent, default=None)


def _data(config: RunConfig) -> str:
    name = config.data.name
    # Paths do not show whether two sets of the user's own share images.
    return "images of the user's own" if name in OWN_DATA else _FAMILIES.get(name, name)


def _under_all_conditions(adjacencies: set[str]) -> str:
    """One adjacency with the conditions of all, such as "for a fixed partition"."""
    parts = [each.split(", for ") for each in sorted(adjacencies)]
    bases = dict.fromkeys(base for base, *_ in parts)
    conditions = dict.fromkeys(each for _, *rest in parts for each in rest)
    return ", for ".join([" / ".join(bases), *conditions])


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
