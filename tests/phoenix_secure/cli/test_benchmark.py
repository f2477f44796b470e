"""``phoenix-secure benchmark dp-images`` on bundled digits: a row, its table, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from built_once import built_once
from command_line import Outcome, phoenix
from phoenix_secure.config_file import load_config
from phoenix_secure.experiments.benchmarks.dp_images import FORM
from phoenix_secure.experiments.benchmarks.table import read_rows
from phoenix_secure.federation.secagg.privacy_plan import check_images

ROW = [
    *("--dataset", "digits", "--setting", "one_place", "--epsilon", "10", "--num-images", "60"),
    *("release.fit_steps=3", "release.num_features=64"),
]


def benchmark(path: Path, *options: str) -> Outcome:
    return phoenix(
        *("benchmark", "dp-images", *ROW, "--out", path / "rows", "--csv", path / "t.csv"),
        *("--format", "json", *options),
    )


def events(outcome: Outcome) -> list[dict[str, object]]:
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished row. Never change it: copy it."""

    def make(folder: Path) -> None:
        told = events(benchmark(folder))
        assert [each["event"] for each in told] == ["started", "done", "finished"]

    return built_once(tmp_path_factory, "benchmark-row", make)


def test_a_row_is_run_once_and_its_command_makes_it_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    again = events(benchmark(tmp_path))

    assert [each["event"] for each in again] == ["kept", "finished"]
    (line,) = read_rows(tmp_path / "t.csv", form=FORM)
    assert (line["setting"], line["trust"]) == ("one_place", "central")
    assert 0 <= float(line["accuracy"]) <= 1
    assert 0 <= float(line["recall"]) <= 1
    assert float(line["surplus"]) == 1.0
    assert float(line["core_hours"]) >= 0
    (folder,) = (tmp_path / "rows").iterdir()
    with np.load(folder / "gen.npz", allow_pickle=False) as images:
        assert images["images"].shape == (60, 1, 8, 8)
        assert np.unique(images["labels"]).size > 1
    # The command of the row names this very row.
    words = line["command"].split()[3:]
    planned = phoenix(
        *("benchmark", "dp-images", *words, "--dry-run", "--out", tmp_path / "rows"),
        *("--format", "json"),
    )
    (row,) = json.loads(planned.out)["rows"]
    assert (row["row"], row["is_done"]) == (folder.name, True)


@pytest.mark.long
def test_the_protocol_s_delta_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No warning for every site of every row; any other run has one."""
    benchmark(tmp_path, "--dry-run")
    assert "a smaller one says more" not in caplog.text
    check_images(load_config("release", ["privacy.delta=1e-4"]), {"site-01": 300})
    assert "a smaller one says more" in caplog.text


def test_a_row_that_was_stopped_after_training_only_judges(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "rows").iterdir()
    result = json.loads((folder / "result.json").read_text())
    summary = (folder / "run" / "summary.json").read_bytes()
    (folder / "result.json").unlink()
    (tmp_path / "t.csv").unlink()

    events(benchmark(tmp_path))
    assert (folder / "run" / "summary.json").read_bytes() == summary
    repeated = json.loads((folder / "result.json").read_text())
    for name in ("accuracy", "kid", "fd", "recall", "noise_multiplier", "command"):
        assert repeated[name] == result[name]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--setting", "moon"), "--setting moon: use one_place, sites_iid, sites_2shards"),
        (("--method", "magic"), "--method magic: use release, selected, dp-sgd, both"),
        (("--trust", "sum"), "no row is left"),
        (("release.fit_step=1",), "fit_steps"),
    ],
)
def test_wrong_options_are_named_before_anything_runs(
    tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    outcome = benchmark(tmp_path, *options)

    assert outcome.code == 2
    assert named in outcome.err
    assert not (tmp_path / "rows").exists()
