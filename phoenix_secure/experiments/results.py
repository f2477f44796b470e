"""Tidy results: one row a point, the same in JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.store import PointFolder, SweepFolder
from phoenix_secure.federation.run.summary import RunSummary, read_summary

__all__ = ["audit_figures", "gather", "privacy_figures", "quality_figures", "to_csv", "to_json"]

Row = dict[str, Any]


def gather(points: Sequence[Point], *, folder: SweepFolder) -> list[Row]:
    """A row for each point, finished or not; what was not measured is None.

    Columns: point, status, reason; label.AXIS for each axis; unit, adjacency, epsilon, delta,
    noise_multiplier (None without differential privacy); kid, kid_std, precision, recall, density,
    coverage, and kid_real of held-out real images; accuracy_synthetic, accuracy_real; audit_*;
    bytes_up, bytes_down, training_seconds, num_parameters, sites, rounds.
    """
    return [_row(point, folder.point(point)) for point in points]


def to_json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(rows, indent=2, sort_keys=True) + "\n").encode()


def to_csv(rows: Sequence[Row]) -> bytes:
    """Columns in the order of their first appearance; empty for None."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _row(point: Point, files: PointFolder) -> Row:
    result = files.read("result.json") or {}
    status = result.get("status", "missing")
    if result.get("settings_digest", point.digest) != point.digest:
        status = "missing"  # of other settings
    row: Row = {
        "point": point.name,
        "status": status,
        "reason": result.get("reason"),
        **{f"label.{axis}": label for axis, label in point.labels.items()},
    }
    summary = read_summary(files.run) if status == "done" else None
    row |= privacy_figures(summary) | quality_figures(summary)
    downstream = (files.read("downstream.json") or {}) if summary else {}
    row |= {name: downstream.get(name) for name in ("accuracy_synthetic", "accuracy_real")}
    row |= audit_figures(files.audit if summary else None)
    names = ("bytes_up", "bytes_down", "training_seconds", "num_parameters", "sites", "rounds")
    return row | {name: None if summary is None else getattr(summary, name) for name in names}


def quality_figures(summary: RunSummary | None) -> Row:
    """Figures of generated images, and the KID of held-out real ones."""
    rows = ((summary and summary.quality) or {}).get("rows", {})
    names = ("kid", "kid_std", "precision", "recall", "density", "coverage")
    generated = rows.get("generated", {})
    real = rows.get("held-out real", {}).get("kid")
    return {name: generated.get(name) for name in names} | {"kid_real": real}


def privacy_figures(summary: RunSummary | None) -> Row:
    """The guarantee as the run stated it; nothing is derived from settings here."""
    guarantee = (summary and summary.guarantee) or {}
    names = ("unit", "adjacency", "epsilon", "delta", "noise_multiplier")
    return {name: guarantee.get(name) for name in names}


def audit_figures(folder: Path | None) -> Row:
    """The strongest attack of the audit in ``folder``, with its intervals.

    Strongest is the smallest corrected p-value, then the largest AUC. Where nothing leaks it is the
    largest of several figures around 0.5, and lies a little above it.
    """
    names = ("verdict", "attack", "auc", "auc_low", "auc_high", "tpr_1", "tpr_1_low", "tpr_1_high")
    row: Row = {f"audit_{name}": None for name in names}
    audit = None if folder is None else PointFolder(folder).read("audit.json")
    if audit is None:
        return row
    row["audit_verdict"] = audit["verdict"]["outcome"]
    if not audit["attacks"]:
        return row
    strongest = min(audit["attacks"], key=lambda one: (one["p_adjusted"], -one["auc"]["value"]))
    row["audit_attack"] = strongest["name"]
    row |= _figure("audit_auc", strongest["auc"])
    for rate in strongest["tpr"]:
        if rate["fpr"] == 0.01 and rate["tpr"] is not None:
            row |= _figure("audit_tpr_1", rate["tpr"])
    return row


def _figure(name: str, figure: dict[str, float]) -> Row:
    return {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
