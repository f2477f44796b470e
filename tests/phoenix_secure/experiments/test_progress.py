"""How far a sweep has got, told from its files: done, failed, cut, waiting, of other settings."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.config_file import dump_config
from phoenix_secure.errors import CheckpointError
from phoenix_secure.experiments.points import Point, expand
from phoenix_secure.experiments.progress import PointState, sweep_status
from phoenix_secure.experiments.spec import load_spec
from phoenix_secure.experiments.store import SweepFolder

SWEEP = """
settings: {data.name: digits, model.class_conditional: true, federation.rounds: 6}
axes: {seed: [0, 1, 2, 3]}
downstream: {num_images: 100, epochs: 1}
"""


@pytest.fixture
def started(tmp_path: Path) -> tuple[SweepFolder, list[Point]]:
    """A sweep of four points, kept in its folder as `sweep` keeps it; nothing has run."""
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    spec = load_spec(file)
    folder = SweepFolder(tmp_path / "out")
    folder.keep(spec, base_folder=tmp_path)
    return folder, expand(spec, folder=tmp_path)


def begin(folder: SweepFolder, point: Point, *, rounds: int) -> None:
    """The files of a point whose run has done so many rounds."""
    files = folder.point(point)
    files.path.mkdir(parents=True)
    files.write("point.json", {"settings_digest": point.digest})
    files.run.mkdir()
    (files.run / "config.yaml").write_text(dump_config(point.config))
    lines = [json.dumps({"round_number": number, "loss": 0.1}) for number in range(1, rounds + 1)]
    (files.run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    files.log.write_text("...")


def test_a_sweep_that_nobody_began_waits(started: tuple[SweepFolder, list[Point]]) -> None:
    folder, points = started
    found = sweep_status(folder.path)
    assert [each.point for each in found.points] == [point.name for point in points]
    assert found.count(PointState.WAITING) == 4
    assert found.points[0].steps == ("run", "downstream")
    assert found.seconds_left is None


def test_each_point_is_told_as_it_is(started: tuple[SweepFolder, list[Point]]) -> None:
    folder, (one, two, three, _) = started
    begin(folder, one, rounds=6)
    digest = {"settings_digest": one.digest}
    folder.point(one).write("result.json", digest | {"status": "done", "seconds": 40.0})
    begin(folder, two, rounds=2)
    failed = {"settings_digest": two.digest, "status": "failed", "reason": "run ended with code 13"}
    folder.point(two).write("result.json", failed)
    begin(folder, three, rounds=3)
    hour_ago = time.time() - 3600
    os.utime(folder.point(three).log, (hour_ago, hour_ago))
    (folder.path / "points" / "seed-9").mkdir()

    found = sweep_status(folder.path)
    states = [each.state for each in found.points]
    assert states == ["done", "failed", "unfinished", "waiting"]
    assert [each.rounds for each in found.points] == [(6, 6), (2, 6), (3, 6), None]
    assert found.points[1].reason == "run ended with code 13"
    assert found.points[2].silent_s == pytest.approx(3600, abs=120)
    assert found.dropped == ("seed-9",)
    assert found.seconds_left == 3 * 40.0

    before = sorted(folder.path.rglob("*"))
    done = phoenix("sweep", "status", str(folder.path))
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "4 points: 1 done, 1 failed, 1 unfinished, 1 waiting" in said
    assert "points/seed-9" in said
    assert sorted(folder.path.rglob("*")) == before
    machine = json.loads(phoenix("sweep", "status", str(folder.path), "--format", "json").out)
    assert machine["counts"]["unfinished"] == 1
    assert machine["points"][2]["rounds"] == [3, 6]


def test_work_of_other_settings_is_not_counted(started: tuple[SweepFolder, list[Point]]) -> None:
    folder, (one, two, *_) = started
    begin(folder, one, rounds=6)
    folder.point(one).write("point.json", {"settings_digest": two.digest})
    folder.point(one).write("result.json", {"settings_digest": two.digest, "status": "done"})
    found = sweep_status(folder.path)
    assert found.points[0].state is PointState.OTHER_SETTINGS
    assert "other settings" in found.points[0].reason


def test_a_finished_point_whose_run_was_deleted_says_so(
    started: tuple[SweepFolder, list[Point]],
) -> None:
    folder, (one, *_) = started
    begin(folder, one, rounds=6)
    folder.point(one).write("result.json", {"settings_digest": one.digest, "status": "done"})
    assert sweep_status(folder.path).points[0].reason == ""
    shutil.rmtree(folder.point(one).run)
    found = sweep_status(folder.path).points[0]
    assert (found.state, found.rounds) == (PointState.DONE, None)
    assert "its run is gone" in found.reason


def test_plots_of_another_kind_are_refused_without_any_figure_too(
    started: tuple[SweepFolder, list[Point]],
) -> None:
    folder, _ = started
    refused = phoenix("sweep", "report", str(folder.path), "--plots", "jpg")
    assert (refused.code, "give pdf, svg or png" in refused.err) == (2, True)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"sweep\.yaml is missing"):
        sweep_status(tmp_path)
