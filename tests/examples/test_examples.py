"""The examples and the notebook's cells run as they stand, in this process and an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import script

pytestmark = pytest.mark.slow  # `make examples`, which CI runs too

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "says"),
    [("simulate_and_audit", "loss: AUC 0."), ("privacy_against_utility", "epsilon      KID")],
)
def test_an_example_runs(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = script(ROOT / "examples" / f"{name}.py")
    assert done.code == 0, done.err
    assert says in done.out


def test_every_example_is_in_the_table() -> None:
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in sorted((ROOT / "examples").glob("*.py"))]
    assert [name for name in names if f"`{name}`" not in table] == []


def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - our own page
    out = capsys.readouterr().out
    assert "epsilon" in out
    assert "failed: 0" in out
