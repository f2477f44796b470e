"""A stray ``protocol.py`` in the working folder never stands in for the secure aggregation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import phoenix_secure


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a user would in ``folder``: that folder comes first on Python's path."""
    root = Path(phoenix_secure.__file__).parents[1]
    start = f"import sys; sys.path.append({str(root)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["protocol", "attacks"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_stray_module_is_never_imported(name: str, is_folder: bool, tmp_path: Path) -> None:
    file = tmp_path / name / "__init__.py" if is_folder else tmp_path / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('stolen')\n")
    done = python(f"import phoenix_secure, {name}\nprint({name}.__file__)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        Path(phoenix_secure.__file__).parents[1] / name / "__init__.py"
    )
    assert str(tmp_path) not in done.stdout


@pytest.mark.parametrize("name", ["protocol", "attacks"])
def test_one_that_was_imported_first_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    done = python(f"import {name}\nimport phoenix_secure", tmp_path)
    assert done.returncode == 1
    assert f"a module {name} from {tmp_path / name}.py" in done.stderr
