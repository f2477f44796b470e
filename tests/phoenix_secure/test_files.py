"""Atomic files: whole or not at all, also on a disk that is full."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
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


_RACE = """
import os, sys, threading, time
from pathlib import Path

from phoenix_secure.files import append_line, replace_file, write_bytes

os.umask(int(sys.argv[2], 8))
# A thread may be held up anywhere; here it is, right after it touched the umask.
threading.setprofile(
    lambda frame, event, what: what is os.umask and event == "c_return" and time.sleep(0.002)
)
root = Path(sys.argv[1])


def secret(path):
    path.write_bytes(b"key")
    seen.append(path.stat().st_mode & 0o777)


seen = []
writers = {
    "atomic": lambda path: write_bytes(path, b"x"),
    "secret": lambda path: replace_file(path, secret, mode=0o600),
    "plain": lambda path: path.write_bytes(b"x"),
    "line": lambda path: append_line(path, "x"),
    "folder": lambda path: path.mkdir(),
}


def work(name, number):
    for index in range(20):
        writers[name](root / f"{name}-{number}-{index}")


threads = [threading.Thread(target=work, args=(name, k)) for name in writers for k in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert set(seen) == {0o600 & ~int(sys.argv[2], 8)}, seen
print(oct(os.umask(0)))
"""


@pytest.mark.parametrize("umask", ["022", "027", "077"])
def test_threads_that_write_at_once_keep_the_users_umask(tmp_path: Path, umask: str) -> None:
    """The umask belongs to the process: whoever sets it for a moment opens others' files."""
    done = subprocess.run(
        [sys.executable, "-c", _RACE, str(tmp_path), umask],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout, 8) == int(umask, 8)
    most = {"secret": 0o600, "folder": 0o777}
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5 * 2 * 20
    wrong = {
        path.name: oct(mode)
        for path in files
        if (mode := stat.S_IMODE(path.stat().st_mode))
        != most.get(path.name.split("-")[0], 0o666) & ~int(umask, 8)
    }
    assert not wrong
