"""Tables and curves as files that other programs read."""

import csv
from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.exports import save_run_curves, save_table

COLUMNS = ["", "a_1", "b"]
ROWS = [["data.path", r"C:\x & 50 %", "~/{y}^2"], ["KID", "0.1 ± 0.2", "-"]]


def test_a_csv_is_read_back_as_it_was(tmp_path: Path) -> None:
    save_table(COLUMNS, ROWS, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [COLUMNS, *ROWS]


def test_latex_escapes_what_would_be_a_command(tmp_path: Path) -> None:
    save_table(COLUMNS, ROWS, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert r" & a\_1 & b \\" in text
    assert r"C:\textbackslash{}x \& 50 \% & \textasciitilde{}/\{y\}\textasciicircum{}2 \\" in text


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_curves_of_runs_that_tell_different_things(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    quality = {"rows": {"generated": {"kid": 0.5}}}
    runs = {
        "told": [{"round_number": n, "loss": 1.0 / n, "quality": quality} for n in (1, 2)],
        "private": [{"round_number": 1, "loss": None}],
        "not begun": [],
    }
    for name in ("a", "b"):
        save_run_curves(runs, tmp_path / f"{name}.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert content.startswith(start)
    assert content == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["table.gif", "table"])
def test_other_suffixes_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.tex"):
        save_table(COLUMNS, ROWS, tmp_path / name)
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        save_run_curves({}, tmp_path / name)
