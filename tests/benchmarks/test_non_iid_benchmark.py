"""The comparison of strategies at equal sequential steps."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_modules import benchmark_module
from phoenix_secure.config_file import load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "fashion_strategies.yaml"
FIGURES = {"kid": 1.23456, "recall": 0.5, "coverage": 0.4, "total_variation": 0.1}


@pytest.fixture(scope="module")
def non_iid() -> Iterator[ModuleType]:
    with benchmark_module("non_iid") as found:
        yield found


def test_every_case_is_there_once_and_takes_as_many_steps_in_a_row(non_iid: ModuleType) -> None:
    found = list(non_iid.cases("fashion-mnist"))
    assert len({case.name for case in found}) == len(found)
    assert {case.strategy for case in found} == {*non_iid.METHODS, "central", "gradients"}
    assert {case.split for case in found} == {*non_iid.SPLITS, "all"}
    for case in found:
        if case.seed == 1:
            release = Path("/tmp/release") if "release" in case.strategy else None  # noqa: S108
            config = load_config(CONFIG, case.settings(steps=800, release=release))
            warm_up = config.sharing.warmup_steps if case.strategy.startswith("sharing") else 0
            in_a_row = config.federation.rounds * config.training.local_steps
            assert in_a_row + warm_up == pytest.approx(800, abs=config.training.local_steps)
            assert config.partition.num_sites == (1 if case.strategy == "central" else 10)


def test_a_row_takes_the_place_of_the_one_that_it_makes_again(
    non_iid: ModuleType, tmp_path: Path
) -> None:
    first, second, *_ = non_iid.cases("mnist")
    found = {"global": FIGURES, "bytes_up": 3, "bytes_down": 4, "seconds": 36}
    table = tmp_path / "results" / "rows.csv"
    non_iid.write_rows(
        [non_iid.row_of(first, found, command="a"), non_iid.row_of(second, found, command="b")],
        table,
    )
    better = found | {"personal": FIGURES | {"kid": 0.5}}
    non_iid.write_rows([non_iid.row_of(first, better, command="a")], table)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["command"], row["kid"], row["bytes"]) for row in rows] == [
        ("a", "0.5", "7"),
        ("b", "1.235", "7"),
    ]
    assert rows[0]["core_hours"] == "0.01"
