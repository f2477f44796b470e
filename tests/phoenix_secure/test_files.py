"""Atomic files: whole or not at all, also on a disk that is full."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from phoenix_secure.errors import StorageError
from phoenix_secure.files import append_line, replace_file, sha256_of, write_bytes


def test_failed_write_keeps_the_old_content_and_leaves_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_bytes(path, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half of the ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    def fill(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"disk full while writing .*x: free some space"):
        replace_file(tmp_path / "x", fill)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_really_full_device_is_recognised() -> None:
    with pytest.raises(StorageError, match="disk full"):
        append_line(Path("/dev/full"), "x" * 100_000)


def test_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(tmp_path / "file" / "inside", b"")


def test_content_lines_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_line(path, "a")
    append_line(path, "b")
    assert path.read_text() == "a\nb\n"
    assert sha256_of(path) == hashlib.sha256(b"a\nb\n").hexdigest()
