"""Text of people and files in what others read: it says what it says, and starts nothing."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

__all__ = ["markdown_cell", "without_controls", "without_marks"]

# Embeddings, overrides and isolates (Unicode Standard Annex 9): they show words in another order
# than the one that is signed. The marks U+200E, U+200F and U+061C are part of some languages.
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t"), ord("\r")}
# Half characters stand for bytes of a file's name that are no UTF-8: nobody can write them out.
_CHANGED = dict.fromkeys(_DIRECTIONS | _CONTROLS) | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def without_controls(text: str) -> str:
    """``text`` without control characters (but for line ends and tabs) and without those that
    turn the direction of writing.

    >>> without_controls("Clinic \\u202egnik\\u202c A\\x1b[31m")
    'Clinic gnik A[31m'
    """
    return text.translate(_CHANGED)


def without_marks(text: str) -> str:
    """``text`` without characters that nobody sees, such as joiners or soft hyphens.

    >>> without_marks("P\u200b7")
    'P7'
    """
    return "".join(each for each in text if unicodedata.category(each) != "Cf")


def markdown_cell(text: Any) -> str:
    """``text`` on one line in which nothing ends a cell or starts markup.

    >>> markdown_cell("<b>A|B</b>\\n- C")
    '\\\\<b\\\\>A\\\\|B\\\\</b\\\\> - C'
    """
    flat = " ".join(without_controls(str(text)).split())
    escaped = re.sub(r"([\\`*_~&\[\]<>|#])", r"\\\1", flat)
    # What begins so would be a list inside a list.
    return re.sub(r"^(\d{0,9})([-+.)] )", r"\1\\\2", escaped)
