"""Every attack test was seen to fail: each check is removed in a copy of the package.

Slow: it runs pytest once per mutation. The quick tests keep the list and the page honest.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MUTATIONS = tomllib.loads((HERE / "mutations.toml").read_text())["mutation"]
PAGE = ROOT / "docs" / "protocol-attacks.md"

# A test that fails because the mutated code is broken proves nothing.
BROKEN = re.compile(r"^E\s+(NameError|SyntaxError|ImportError|UnboundLocalError)", re.MULTILINE)


def mutated(source, mutation):
    """The package's files after the edits: path -> text; each edit must fit exactly once."""
    texts = {}
    for edit in mutation["edit"]:
        text = texts.get(edit["file"]) or (source / edit["file"]).read_text()
        assert text.count(edit["old"]) == 1, f"{edit['file']}: {edit['old']!r}"
        texts[edit["file"]] = text.replace(edit["old"], edit["new"])
    return texts


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m["attack"])
def test_each_mutation_still_fits_the_code_and_its_test_exists(mutation):
    for name, text in mutated(ROOT / "protocol", mutation).items():
        compile(text, name, "exec")
    assert (HERE / mutation["test"].partition("::")[0]).exists()


def test_every_attack_has_a_test_file_and_a_mutation():
    numbers = {int(m["attack"].split()[0]) for m in MUTATIONS}
    files = {int(path.name[5:7]) for path in HERE.glob("test_[0-9][0-9]_*.py")}
    assert numbers == files == set(range(1, 29))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m["attack"])
def test_the_attack_succeeds_when_its_check_is_removed(mutation, tmp_path):
    copy_parts(tmp_path)
    for name, text in mutated(ROOT / "protocol", mutation).items():
        (tmp_path / "protocol" / name).write_text(text)
    done = run_attack(mutation["test"], tmp_path)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "failed" in done.stdout.splitlines()[-1]
    assert not BROKEN.search(done.stdout), done.stdout[-2000:]


@pytest.mark.slow
def test_without_a_mutation_the_copied_tests_pass(tmp_path):
    copy_parts(tmp_path)
    done = run_attack("test_01_both_shares_of_one_client.py", tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]


def copy_parts(folder):
    """The package and what its tests need, to be changed in ``folder``."""
    for part in ("protocol", "tests/protocol", "tests/support"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")


def run_attack(test, folder):
    """pytest on one attack file (and expression) against the package in ``folder``."""
    file, _, expression = test.partition("::")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "--rootdir", str(folder), "-c", os.devnull]
    command += [str(folder / "tests" / "protocol" / "attacks" / file)]
    command += ["-k", expression] if expression else []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "tests" / "support"))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def page():
    """``docs/protocol-attacks.md`` as the list has it."""
    head = (HERE / "page_head.md").read_text()
    rows = ["| attack | test | check that stops it | mutation seen to make the test fail |"]
    rows += ["|---|---|---|---|"]
    for m in MUTATIONS:
        edits = "; ".join(describe(edit) for edit in m["edit"])
        file, _, expression = m["test"].partition("::")
        test = f"`{file}`" + (f" (`-k '{expression}'`)" if expression else "")
        rows.append(f"| {m['attack']} | {test} | {m['check']} | {edits} |")
    return head + "\n".join(rows) + "\n"


def describe(edit):
    """One edit in one line of Markdown."""
    old, new = (" ".join(edit[key].split()).replace("|", "\\|") for key in ("old", "new"))
    replaced = f"`{old}` becomes `{new}`" if new else f"`{old}` is removed"
    return f"`{edit['file']}`: {replaced}"


def test_the_page_is_current():
    """Run ``python -m pytest`` on this file with WRITE_PAGE=1 to write the page anew."""
    if os.environ.get("WRITE_PAGE"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
