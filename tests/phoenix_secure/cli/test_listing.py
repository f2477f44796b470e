"""Tables on terminals of every width: never a number over two lines."""

from __future__ import annotations

import pytest

from phoenix_secure.cli import listing
from phoenix_secure.cli.listing import print_listing, print_table
from phoenix_secure.cli.tables import quality_table

COLUMNS = ("run", "data", "KID", "AUC")
ROWS = [["runs/first", "image-folder", "34.27", "0.5278"], ["[red]x", "digits", "", "0.5031"]]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_cell_is_broken_whatever_the_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing.console, "width", width)
    print_listing(COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    for cell in (cell for row in ROWS for cell in row):
        assert any(cell in line for line in lines), cell
    is_table = any("data" in line and "KID" in line for line in lines)
    assert is_table is (width > 40)
    if is_table:
        assert max(map(len, lines)) <= width
    else:
        assert "  KID: 34.27" in lines
        assert sum("KID" in line for line in lines) == 1  # an empty cell has no line


def test_nothing_in_a_name_turns_the_writing_or_moves_the_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "\u202egnp.\u2066x\x1b[2J"
    for width in (20, 80):
        monkeypatch.setattr(listing.console, "width", width)
        print_listing(COLUMNS, [[name, name, "1", "2"]])
        listing.console.print(name)
    shown = capsys.readouterr().out
    assert shown.count("gnp.x[2J") == 6
    assert not {"\u202e", "\u2066", "\x1b"} & set(shown)


@pytest.mark.parametrize("width", [30, 100])
def test_a_quality_table_keeps_its_figures_and_its_words_at_every_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing.console, "width", width)
    row = {"kid": 34.2718, "kid_std": 6.715, "frechet": None}
    row |= dict.fromkeys(("precision", "recall", "density", "coverage"), 0.125)
    table = {"extractor": "net", "frechet_name": "FD-net", "num_images": 6}
    print_table(quality_table({**table, "rows": {"generated": row, "noise": row}}))
    shown = capsys.readouterr().out
    assert shown.count("34.272 ± 6.715") == 2
    assert shown.count("0.125") == 8
    words = " ".join(shown.split())
    assert "6 images in each row: enough to tell a trained model from noise" in words
    assert ("  KID: 34.272 ± 6.715" in shown) is (width == 30)
