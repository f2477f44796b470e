"""Points of a sweep's axes: every combination, checked before the first one runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.spec import SweepSpec
from phoenix_secure.yaml_text import dump_yaml

__all__ = ["Point", "expand", "shard_of"]

# Raised whenever the same private settings lead to other members, draws or noise, so that results
# of both never stand in one table. 2: keyed split, secret streams, tighter calibration.
_PRIVATE_RESULTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run of a sweep.

    name      of its folder: readable, unique within the sweep
    labels    axis -> value, for tables and plots
    """

    name: str
    labels: Mapping[str, str]
    config: RunConfig

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved settings: a result belongs to exactly one.

        Under differential privacy also of the version of what they lead to.
        """
        if self.config.privacy.unit == "none":
            return self.settings_digest
        text = f"private results {_PRIVATE_RESULTS}:{self.settings_digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def settings_digest(self) -> str:
        """SHA-256 of the resolved settings alone, which named a private result before."""
        text = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def expand(spec: SweepSpec, *, folder: Path) -> list[Point]:
    """All points of ``spec``; ``base`` is looked for in ``folder``.

    Guarantee:  every point's settings are valid; names are unique; the order is that of the axes.
    Raises:     ConfigError naming the point and the setting.
    """
    base = None if spec.base is None else folder / spec.base
    axes = [_choices(name, values) for name, values in spec.axes.items()]
    chosen: list[tuple[dict[str, str], dict[str, Any]]] = []
    if axes:
        for combination in itertools.product(*axes):
            labels = {axis: label for axis, label, _ in combination}
            changes: dict[str, Any] = {}
            for axis, _, part in combination:
                _merge(changes, part, where=axis)
            chosen.append((labels, changes))
    chosen += [({"point": label}, dict(changes)) for label, changes in spec.points.items()]
    points = [_point(labels, {**spec.settings, **changes}, base) for labels, changes in chosen]
    names = [point.name for point in points]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ConfigError(f"two points are called {min(doubled)}: give other labels")
    return points


def shard_of(points: list[Point], shard: str | None) -> list[Point]:
    """The points of share ``i/n`` (1-based): every n-th, so that seeds and costs spread.

    Raises:     ConfigError for another form.
    """
    if shard is None:
        return points
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {shard!r} must look like 2/8: share 2 of 8")
    return points[int(found[1]) - 1 :: int(found[2])]


def _choices(axis: str, values: list[Any] | dict[str, Any]) -> list[tuple[str, str, Any]]:
    if isinstance(values, dict):
        return [(axis, str(label), changes) for label, changes in values.items()]
    return [(axis, str(value), {axis: value}) for value in values]


def _merge(changes: dict[str, Any], part: Mapping[str, Any], *, where: str) -> None:
    for key, value in part.items():
        if key in changes:
            raise ConfigError(f"axis {where} sets {key}, which another axis sets too")
        changes[key] = value


def _point(labels: dict[str, str], changes: dict[str, Any], base: Path | None) -> Point:
    # The changes travel as the command line's own overrides: one rule, one set of errors.
    overrides = [f"{key}={dump_yaml(value, one_line=True)}" for key, value in changes.items()]
    where = ", ".join(f"{axis} {label}" for axis, label in labels.items())
    try:
        config = load_config(base, overrides)
    except ConfigError as error:
        raise ConfigError(f"point ({where}): {error}") from error
    return Point(name=_name(labels), labels=labels, config=config)


def _name(labels: Mapping[str, str]) -> str:
    parts = [f"{axis.rsplit('.', 1)[-1]}-{label}" for axis, label in labels.items()]
    text = re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(parts).replace("_", "--")).strip("-.").lower()
    if len(text) <= 80 and text:
        return text
    return text[:60] + "-" + hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:12]
