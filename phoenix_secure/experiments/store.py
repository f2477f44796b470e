"""The folder of a sweep.

::

    sweep.yaml       the sweep as it was started     points/NAME/run/      an ordinary run
    results.json     one entry for each point        points/NAME/audit/    its audit
    results.csv      the same, one row each          points/NAME/*.json    what was measured
    report.html      and report/*.png                points/NAME/log.txt   what the run printed
    spent.json       privacy spent by all points together
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.config_file import dump_config, load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.spec import SweepSpec
from phoenix_secure.files import write_bytes
from phoenix_secure.yaml_text import dump_yaml

__all__ = ["PointFolder", "SweepFolder"]

_BASE = "base.yaml"


@dataclass(frozen=True, slots=True)
class PointFolder:
    """Files of one point. ``result.json`` appears last: with it, the point is finished."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def audit(self) -> Path:
        return self.path / "audit"

    def run_summary(self) -> dict[str, Any] | None:
        """The summary that the run wrote at its end; None where it has not ended."""
        return PointFolder(self.run).read("summary.json")

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON object in ``name``; None where there is none, or half of one."""
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return None

    def write(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        write_bytes(self.path / name, text.encode())

    def result_of(self, point: Point) -> dict[str, Any] | None:
        """The finished result of ``point``, if it is there.

        Raises:     ConfigError when the folder holds another point's work.
        """
        for name in ("point.json", "result.json"):
            about = self.read(name)
            if about is None or about.get("settings_digest") == point.digest:
                continue
            if about.get("settings_digest") == point.settings_digest:
                raise ConfigError(
                    f"{self.path} was made by an earlier version, in which the private settings of "
                    f"point {point.name} led to other members and other noise: choose another "
                    "--out, or delete that folder (what it spent is spent all the same)"
                )
            raise ConfigError(
                f"{self.path} was made with other settings than point {point.name} has now: "
                "choose another --out, or delete that folder"
            )
        result = self.read("result.json")
        return result if result is not None and result.get("status") == "done" else None


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Files of one sweep."""

    path: Path

    def point(self, point: Point) -> PointFolder:
        return PointFolder(self.path / "points" / point.name)

    def point_folders(self) -> list[PointFolder]:
        """Every point that was started, whether the sweep still names it or not."""
        return [PointFolder(path) for path in sorted(self.path.glob("points/*")) if path.is_dir()]

    @property
    def spec_file(self) -> Path:
        return self.path / "sweep.yaml"

    def keep(self, spec: SweepSpec, *, base_folder: Path) -> None:
        """Keep the sweep and its base beside the results: the folder explains itself.

        The kept base is the resolved one, so that editing the original later changes nothing here.
        """
        if spec.base is not None:
            base = dump_config(load_config(base_folder / spec.base))
            write_bytes(self.path / _BASE, base.encode())
            spec = spec.model_copy(update={"base": _BASE})
        text = dump_yaml(spec.model_dump(mode="json"))
        write_bytes(self.spec_file, text.encode())

    def write(self, name: str, content: bytes) -> None:
        write_bytes(self.path / name, content)
