"""The digest of the code: every byte, name and place counts; nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.governance.code_digest import installed_code, tree_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one.py").write_bytes(b"x = 1\n")
    (tmp_path / "a" / "b" / "two.py").write_bytes(b"y = 2\n")
    return tmp_path / "a"


def change(tree: Path) -> None:
    (tree / "one.py").write_bytes(b"x = 2\n")


def add(tree: Path) -> None:
    (tree / "b" / "three.py").write_bytes(b"")


def remove(tree: Path) -> None:
    (tree / "one.py").unlink()


def rename(tree: Path) -> None:
    (tree / "one.py").rename(tree / "b" / "one.py")


def swap(tree: Path) -> None:
    (tree / "one.py").write_bytes(b"y = 2\n")
    (tree / "b" / "two.py").write_bytes(b"x = 1\n")


@pytest.mark.parametrize("alter", [change, add, remove, rename, swap])
def test_every_change_of_code_gives_another_digest(tree: Path, alter) -> None:
    before = tree_digest(tree)
    alter(tree)
    assert tree_digest(tree) != before


def test_caches_and_other_files_do_not_count(tree: Path) -> None:
    before = tree_digest(tree)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "one.cpython-311.pyc").write_bytes(b"cache")
    (tree / "notes.txt").write_text("notes")
    assert tree_digest(tree) == before


def test_installed_code_is_a_sha256_that_stays_during_a_process() -> None:
    assert len(installed_code()) == 64
    assert installed_code() == installed_code()
