"""Key files: closed to others from the first moment on, whole or not there."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError, StorageError
from phoenix_secure.secret_files import (
    check_private,
    make_private_folder,
    read_secret,
    write_secret,
)

_OPENED = """
import os, sys
from pathlib import Path

from phoenix_secure.secret_files import make_private_folder, write_secret

os.umask(0)  # nothing helps: the modes must be asked for
modes = []


def watch(event, args):
    for path in (folder, key):
        if path.exists():
            modes.append(path.stat().st_mode & 0o077)


folder, key = Path(sys.argv[1]) / "keys", Path(sys.argv[1]) / "keys" / "a.key"
sys.addaudithook(watch)
make_private_folder(folder)
write_secret(key, b"k" * 32)
watch("end", ())
assert len(modes) > 2 and not any(modes), modes
"""


def test_folder_and_key_are_never_open_to_others(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _OPENED, str(tmp_path)], check=True)
    key = tmp_path / "keys" / "a.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert read_secret(key, size=32) == b"k" * 32


def test_folder_that_was_open_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    make_private_folder(tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_key_is_never_written_over_another(tmp_path: Path) -> None:
    write_secret(tmp_path / "a.key", b"first")
    with pytest.raises(StorageError, match="cannot write"):
        write_secret(tmp_path / "a.key", b"second")
    assert read_secret(tmp_path / "a.key") == b"first"


def test_half_a_key_does_not_stay(tmp_path: Path) -> None:
    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))

    code = (
        "import sys; from pathlib import Path; "
        "from phoenix_secure.secret_files import write_secret; "
        "write_secret(Path(sys.argv[1]), bytes(32))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / "a.key")],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StorageError" in done.stderr
    assert os.listdir(tmp_path) == []
    write_secret(tmp_path / "a.key", bytes(32))


def test_key_that_others_can_read_is_refused_without_showing_it(tmp_path: Path) -> None:
    write_secret(tmp_path / "a.key", b"very secret")
    (tmp_path / "a.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        check_private(tmp_path / "a.key")
    assert "very secret" not in str(refused.value)
