"""The benchmark's table: rows of many writers, each once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks import dfd_mnist
from phoenix_secure.experiments.benchmarks.dp_images import FORM
from phoenix_secure.experiments.benchmarks.table import (
    add_row,
    form_of,
    locked,
    markdown,
    read_rows,
)


def row(number: int) -> dict[str, object]:
    return dict.fromkeys(FORM.columns, "-") | {
        "seed": number,
        "command": f"make row, number {number}",
    }


def test_rows_of_many_writers_are_all_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with ThreadPoolExecutor(8) as writers:
        added = list(
            writers.map(lambda number: add_row(path, row(number % 12), form=FORM), range(24))
        )

    assert sum(added) == 12
    found = read_rows(path, form=FORM)
    assert sorted(int(each["seed"]) for each in found) == list(range(12))
    assert all(each["command"] == f"make row, number {each['seed']}" for each in found)
    assert path.read_text().startswith(
        "dataset,image_size,method,setting,trust,epsilon,delta,seed,accuracy,kid,fd,"
        "noise_multiplier,surplus,core_hours,command"
    )


def test_a_held_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock", wait=False) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "lock", wait=False) as again:
        assert again


def test_rows_of_several_seeds_are_one_line_with_their_spread() -> None:
    figures = {"accuracy": "0.9", "kid": "1", "fd": "10", "recall": "0.5", "core_hours": "0.5"}
    rows = []
    for seed, accuracy in enumerate(("0.90", "0.94")):
        command = f"phoenix-secure benchmark dp-images --dataset mnist --seed {seed} release.x=1"
        texts = {name: str(value) for name, value in row(seed).items()}
        rows.append(texts | figures | {"accuracy": accuracy, "surplus": "1", "command": command})
    other = rows[0] | {"command": rows[0]["command"] + " release.y=2"}
    lines = markdown([*rows, other], form=FORM).splitlines()

    assert len(lines) == 4
    assert "| 2 | 0.920 ± 0.028 | 1.000 ± 0.000 |" in lines[2]
    assert lines[2].endswith("| release.x=1 |")
    assert "| 1 | 0.900 |" in lines[3]


def test_a_table_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")

    with pytest.raises(ConfigError, match="dp-images` or `benchmark dfd-mnist"):
        form_of(other, forms=(FORM, dfd_mnist.FORM))
    with pytest.raises(ConfigError, match="--csv"):
        add_row(other, row(0), form=FORM)
    assert other.read_text() == "a,b\n1,2\n"


def test_a_table_s_own_benchmark_is_known_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    add_row(path, row(0), form=FORM)

    assert form_of(path, forms=(dfd_mnist.FORM, FORM)) is FORM
    with pytest.raises(ConfigError, match="dfd-mnist"):
        read_rows(path, form=dfd_mnist.FORM)
