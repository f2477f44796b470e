"""``phoenix-secure benchmark dfd-mnist`` on bundled digits: rows, their table, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from built_once import built_once
from command_line import Outcome, phoenix
from phoenix_secure.experiments.benchmarks.dfd_mnist import FORM
from phoenix_secure.experiments.benchmarks.table import read_rows

ROW = [
    *("--dataset", "digits", "--partition", "two-classes", "--num-images", "120"),
    *("release.fit_steps=3", "release.num_features=64"),
]


def benchmark(path: Path, *options: str) -> Outcome:
    return phoenix(
        *("benchmark", "dfd-mnist", *ROW, "--out", path / "rows", "--csv", path / "t.csv"),
        *("--format", "json", *options),
    )


def events(outcome: Outcome) -> list[dict[str, object]]:
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished row. Never change it: copy it."""

    def make(folder: Path) -> None:
        told = events(benchmark(folder, "--method", "release", "--epsilon", "none"))
        assert [each["event"] for each in told] == ["started", "done", "finished"]

    return built_once(tmp_path_factory, "benchmark-dfd-row", make)


def test_a_row_is_run_once_and_its_command_makes_it_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    again = events(benchmark(tmp_path, "--method", "release", "--epsilon", "none"))

    assert [each["event"] for each in again] == ["kept", "finished"]
    (line,) = read_rows(tmp_path / "t.csv", form=FORM)
    assert (line["method"], line["partition"]) == ("release", "two-classes")
    assert line["epsilon"] == "1000"  # a release without noise there is not
    for figure in ("logreg", "mlp", "cnn", "precision", "recall"):
        assert 0 <= float(line[figure]) <= 1
    assert float(line["fd"]) > 0
    (folder,) = (tmp_path / "rows").iterdir()
    guarantee = json.loads((folder / "run" / "summary.json").read_text())["guarantee"]
    assert 900 < guarantee["epsilon"] <= 1000
    with np.load(folder / "gen.npz", allow_pickle=False) as images:
        assert images["images"].shape == (120, 1, 8, 8)
        assert np.unique(images["labels"]).size == 10
    # The command of the row names this very row.
    planned = phoenix(
        *("benchmark", "dfd-mnist", *line["command"].split()[3:], "--dry-run"),
        *("--out", tmp_path / "rows", "--format", "json"),
    )
    (row,) = json.loads(planned.out)["rows"]
    assert (row["row"], row["is_done"]) == (folder.name, True)


def test_the_table_is_printed_as_documents_have_it(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    printed = phoenix("benchmark", "table", tmp_path / "t.csv")

    assert printed.code == 0, printed.err
    title, _, line, *_ = printed.out.splitlines()
    assert title.startswith("| method | sites' images | epsilon | seeds | LogReg | MLP | CNN |")
    assert line.startswith("| release | two-classes | 1000 | 1 | 0.")
    assert "release.fit_steps=3" in line
    # A run of rows ends with the same lines.
    ended = benchmark(
        tmp_path, "--method", "release", "--epsilon", "none", "--format", "text"
    ).out.splitlines()
    assert "kept from before" in ended[0]
    assert {title, line} <= set(ended)


def test_a_row_that_was_stopped_after_training_only_judges(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "rows").iterdir()
    result = json.loads((folder / "result.json").read_text())
    summary = (folder / "run" / "summary.json").read_bytes()
    (folder / "result.json").unlink()
    (tmp_path / "t.csv").unlink()

    events(benchmark(tmp_path, "--method", "release", "--epsilon", "none"))
    assert (folder / "run" / "summary.json").read_bytes() == summary
    repeated = json.loads((folder / "result.json").read_text())
    for name in ("logreg", "mlp", "cnn", "fd", "precision", "recall", "command"):
        assert repeated[name] == result[name]


@pytest.mark.long
@pytest.mark.parametrize("method", ["fedavg", "gradients"])
@pytest.mark.parametrize("epsilon", ["10", "none"])
def test_a_diffusion_model_is_a_row_too(tmp_path: Path, method: str, epsilon: str) -> None:
    few = ["federation.rounds=2", "model.block_channels=[8,8]", "sampling.num_steps=2"]
    outcome = phoenix(
        *("benchmark", "dfd-mnist", *ROW[:-2], "--method", method, "--epsilon", epsilon),
        *("--out", tmp_path / "rows", "--csv", tmp_path / "t.csv", *few),
    )

    assert outcome.code == 0, outcome.err
    (line,) = read_rows(tmp_path / "t.csv", form=FORM)
    assert (line["method"], line["epsilon"]) == (method, epsilon)
    assert 0 <= float(line["cnn"]) <= 1


def test_the_plan_names_every_row_before_anything_runs(tmp_path: Path) -> None:
    outcome = benchmark(tmp_path, "--dry-run", "--method", "release")

    plan = json.loads(outcome.out)
    assert [row["delta"] for row in plan["rows"]] == [1e-5, 1e-5]
    assert plan["seconds"] > 0
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--method", "magic"), "--method magic: use release, selected, fedavg, gradients"),
        (("--partition", "moon"), "--partition moon: use dirichlet, two-classes"),
        (("--epsilon", "ten"), "--epsilon ten: a number above 0, or none"),
        (("--dataset", "cifar10"), "--dataset cifar10: use mnist, digits"),
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
