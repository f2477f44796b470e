"""The line that tells how far the reading of many images is."""

from __future__ import annotations

import io
import sys

import pytest

from phoenix_secure.cli import reading
from phoenix_secure.data.reading_progress import report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


CLEARED = "\r\033[K"


def test_a_terminal_sees_the_number_and_at_the_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PATIENCE_S", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reading.told_on_terminal():
        for done in range(1, 601):
            report("decoding pictures", done, 600)
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    first, second = (f"\rdecoding pictures: {done} of 600" for done in (256, 512))
    assert written == first + second + CLEARED


def test_an_error_finds_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PATIENCE_S", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())

    def read() -> None:
        report("decoding pictures", 256, 600)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"), reading.told_on_terminal():
        read()
    assert sys.stderr.getvalue().endswith(CLEARED)  # type: ignore[attr-defined]


def test_quick_readings_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reading.told_on_terminal():
        report("decoding pictures", 256, 600)
    assert sys.stderr.getvalue() == CLEARED  # type: ignore[attr-defined]


def test_a_log_file_gets_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PATIENCE_S", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with reading.told_on_terminal():
        report("decoding pictures", 256, 600)
    report("decoding pictures", 512, 600)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
