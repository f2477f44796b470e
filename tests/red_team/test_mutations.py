"""Every attack test here was seen to fail: each check is removed in a copy of the tree.

Slow: it runs pytest once per mutation. The quick test keeps the list in step with the code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MUTATIONS = tomllib.loads((HERE / "mutations.toml").read_text())["mutation"]
# A test that fails because the mutated code is broken proves nothing.
BROKEN = re.compile(r"^E\s+(NameError|SyntaxError|ImportError|UnboundLocalError)", re.MULTILINE)


def mutated(mutation: dict) -> dict[str, str]:
    """The files after the edits: path -> text; each edit must fit exactly once."""
    texts: dict[str, str] = {}
    for edit in mutation["edit"]:
        text = texts.get(edit["file"]) or (ROOT / edit["file"]).read_text()
        assert text.count(edit["old"]) == 1, f"{edit['file']}: {edit['old']!r}"
        texts[edit["file"]] = text.replace(edit["old"], edit["new"])
    return texts


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m["attack"])
def test_each_mutation_still_fits_the_code_and_its_test_exists(mutation: dict) -> None:
    for name, text in mutated(mutation).items():
        compile(text, name, "exec")
    assert (HERE / mutation["test"].partition("::")[0]).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m["attack"])
def test_the_attack_succeeds_when_its_check_is_removed(mutation: dict, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "older_versions")
    for part in ("protocol", "phoenix_secure", "attacks", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    for name, text in mutated(mutation).items():
        (tmp_path / name).write_text(text)
    file, _, expression = mutation["test"].partition("::")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "--rootdir", str(tmp_path), "-c", os.devnull]
    command += [str(tmp_path / "tests" / "red_team" / file), "-k", expression]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "tests" / "support")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1, done.stdout[-2000:]
    assert "failed" in done.stdout.splitlines()[-1]
    assert not BROKEN.search(done.stdout), done.stdout[-2000:]
