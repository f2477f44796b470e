"""What people call things, in pages that others read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.printed_text import markdown_cell, without_controls

TURNING = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]


@pytest.mark.parametrize("character", [*TURNING, "\x00", "\x1b", "\x7f", "\x9b"])
def test_directions_and_controls_are_left_out(character: str) -> None:
    assert without_controls(f"a{character}b") == "ab"
    assert markdown_cell(f"a{character}b") == "ab"


def test_writing_from_right_to_left_and_line_ends_stay() -> None:
    text = "بيمارستان\u200f\n\tÅ 病理\r\n"
    assert without_controls(text) == text


@given(st.text(st.characters()))
def test_any_text_can_be_written_out_as_one_cell(text: str) -> None:
    cell = markdown_cell(text)
    cell.encode()
    assert len(cell.splitlines()) <= 1
    bare = cell.replace("\\\\", "")
    for mark in "|<>`*_[]#&~":
        assert bare.count(mark) == bare.count(f"\\{mark}")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("A | B", "A \\| B"),
        ("<script>x</script>", "\\<script\\>x\\</script\\>"),
        ("one\n\n# two", "one \\# two"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("&lt;b&gt;", "\\&lt;b\\&gt;"),
        ("-5", "-5"),
        ("1.5 x", "1.5 x"),
    ],
)
def test_markup_is_text(text: str, cell: str) -> None:
    assert markdown_cell(text) == cell
