"""A sweep's privacy-quality frontier, for the report of the run that was chosen.

The sweep's runs have ledgers of their own. Here its results are handed in, like declared answers,
and only their form is checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from phoenix_secure.errors import ConfigError

__all__ = ["SWEEP", "parse_frontier", "read_sweep"]

SWEEP = "sweep.json"
_MAX_BYTES = 1 << 24
_COLUMNS = ("kid", "precision", "recall", "accuracy_synthetic", "audit_auc")


class _Spent(BaseModel):
    """One total of spent.json: all points on one data set, which is not named here."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    unit: str
    adjacency: str
    epsilon: float
    delta: float
    points: int


class _Point(BaseModel):
    """The columns of results.json that the frontier is plotted from."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    point: str
    status: str
    unit: str | None
    epsilon: float | None
    delta: float | None
    kid: float | None
    precision: float | None
    recall: float | None
    accuracy_synthetic: float | None
    audit_auc: float | None


_POINTS = TypeAdapter(list[_Point])
_SPENT = TypeAdapter(list[_Spent])


def read_sweep(folder: Path) -> bytes:
    """A sweep's results.json and what all its points spent, as one document.

    Raises:     ConfigError naming the file.
    """
    try:
        points = json.loads(_content(folder / "results.json"))
        spent = json.loads(_content(folder / "spent.json"))
    except ValueError as error:
        raise ConfigError(
            f"{folder} holds no results of a sweep: make them with `sweep report {folder}`"
        ) from error
    content = json.dumps({"points": points, "spent": spent}, indent=2, sort_keys=True).encode()
    parse_frontier(content, name=str(folder))
    return content + b"\n"


def parse_frontier(content: bytes, *, name: str, with_names: bool = True) -> dict[str, Any]:
    """Finished points by epsilon, without privacy last, and what they spent together.

    with_names   else points are numbered: names of points may name data

    Raises:     ConfigError for anything but ``read_sweep``'s document.
    """
    try:
        value = json.loads(content)
        points = _POINTS.validate_python(value["points"])
        spent = _SPENT.validate_python(value["spent"]["totals"])
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError) as error:
        raise ConfigError(f"{name} is not the result of a sweep of this version") from error
    done = [each for each in points if each.status == "done"]
    done.sort(key=lambda each: (each.epsilon is None, each.epsilon or 0.0, each.point))
    return {
        "points": [
            {
                "point": each.point if with_names else f"point {number}",
                "unit": each.unit,
                "epsilon": each.epsilon,
                "delta": each.delta,
                **{name: getattr(each, name) for name in _COLUMNS},
            }
            for number, each in enumerate(done, start=1)
        ],
        "not_finished": len(points) - len(done),
        "spent_by_all": [each.model_dump(mode="json") for each in spent],
    }


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is longer than 16 MiB: that is no result of a sweep")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}): name the folder of a sweep"
        ) from error
