"""Lines of metrics.jsonl: a cut one is left out, a damaged one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.metrics_file import read_metrics

_LINES = [{"round_number": number, "note": "a\x85b\u2028c"} for number in (1, 2)]


def _written(path: Path, *more: str) -> Path:
    # Written as others may: with characters that are line ends elsewhere than in JSON lines.
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in _LINES]
    path.write_text("".join([*lines, *more]), encoding="utf-8")
    return path


def test_whole_lines_are_read_and_a_cut_one_is_not(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []
    path = _written(tmp_path / "metrics.jsonl", '{"round_number": 3, "lo')
    assert read_metrics(path) == _LINES
    assert RunFolder(tmp_path).read_metrics() == _LINES


@pytest.mark.parametrize(
    "damaged", ["{\n", "[1]\n", "7\n", '{"loss": 1}\n', '{"round_number": ""}\n'], ids=range(5)
)
def test_a_damaged_line_is_no_round_that_never_was(tmp_path: Path, damaged: str) -> None:
    path = _written(tmp_path / "metrics.jsonl", damaged, json.dumps(_LINES[0]) + "\n")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
        RunFolder(tmp_path).keep_metrics_until(1)
    assert path.read_bytes() == before
