from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phoenix_secure.data.clients import ClientFailed, run_client


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_client(folder: Path, script: str, *, name: str = "client") -> None:
    client = folder / name
    client.write_text(f"#!/bin/sh\n{script}\n")
    client.chmod(0o755)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended; only its parent has not looked yet.
    return " Z " not in Path(f"/proc/{pid}/stat").read_text().partition(")")[2][:4]


def has_ended(pid: int) -> bool:
    """A killed process is gone once it has had its turn on a processor: soon, not at once."""
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def wait_for(file: Path, *, seconds: float = 10) -> str:
    deadline = time.monotonic() + seconds
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"{file} never appeared"
        time.sleep(0.02)
    return file.read_text()


def test_a_client_runs_in_its_folder_and_is_watched(bin_dir: Path, tmp_path: Path) -> None:
    write_client(bin_dir, "echo 12345 > out; /bin/sleep 0.5")
    folder = tmp_path / "work"
    folder.mkdir()
    seen: list[int] = []
    run_client(["client"], folder=folder, timeout_s=10, watch=seen.append)
    assert (folder / "out").read_text() == "12345\n"
    assert seen[-1] == 6


def test_arguments_are_never_interpreted_by_a_shell(bin_dir: Path, tmp_path: Path) -> None:
    write_client(bin_dir, 'printf "%s" "$1" > out')
    hostile = "$(touch hacked); `touch hacked` > hacked"
    run_client(["client", hostile], folder=tmp_path, timeout_s=10)
    assert (tmp_path / "out").read_text() == hostile
    assert not (tmp_path / "hacked").exists()


def test_a_missing_client_is_named(bin_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ClientFailed, match="npm is not installed"):
        run_client(["npm", "pack"], folder=tmp_path, timeout_s=10)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one; echo two >&2; exit 3", "client failed: two"),
        ("echo 'E: Unable to locate package'; echo later; exit 100", "E: Unable to locate"),
        ("exit 1", "client failed: no answer"),
        (r"printf '\033[31mred\007\n'; exit 1", r"client failed: \[31mred$"),
    ],
)
def test_a_failing_client_is_quoted_on_one_printable_line(
    bin_dir: Path, tmp_path: Path, script: str, reason: str
) -> None:
    write_client(bin_dir, script)
    with pytest.raises(ClientFailed, match=reason) as caught:
        run_client(["client"], folder=tmp_path, timeout_s=10)
    assert str(caught.value).isprintable()


def test_a_chatty_client_is_quoted_shortly(bin_dir: Path, tmp_path: Path) -> None:
    write_client(
        bin_dir, 'i=0; while [ $i -lt 3000 ]; do printf "xxxxxxxxxx"; i=$((i+1)); done; exit 1'
    )
    with pytest.raises(ClientFailed) as caught:
        run_client(["client"], folder=tmp_path, timeout_s=10)
    assert len(str(caught.value)) < 300


@pytest.mark.long
def test_a_hanging_client_is_ended_with_all_it_started(bin_dir: Path, tmp_path: Path) -> None:
    write_client(bin_dir, "trap '' TERM; /bin/sleep 60 & echo $! > child; echo $$ > parent; wait")
    started = time.monotonic()
    with pytest.raises(ClientFailed, match="not done after 1 s"):
        run_client(["client"], folder=tmp_path, timeout_s=1)
    assert time.monotonic() - started < 10
    for name in ("child", "parent"):
        assert has_ended(int((tmp_path / name).read_text()))


def test_ctrl_c_ends_the_client_too(bin_dir: Path, tmp_path: Path) -> None:
    write_client(bin_dir, "/bin/sleep 60 & echo $! > child; wait")
    program = (
        "import pathlib; from phoenix_secure.data.clients import run_client;"
        f"run_client(['client'], folder=pathlib.Path({str(tmp_path)!r}), timeout_s=60)"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        # A test run started in the background inherits an ignored SIGINT; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child = int(wait_for(tmp_path / "child", seconds=30))
    ours.send_signal(signal.SIGINT)
    _, errors = ours.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    assert has_ended(child)


def test_ctrl_c_while_the_client_is_being_started_ends_it_too(
    bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs before ``Popen`` returns, so that nobody else could end it."""
    write_client(bin_dir, "/bin/sleep 60 & echo $! > child; wait")
    real = subprocess.Popen

    def interrupted(*arguments: object, **more: object) -> object:
        process = real(*arguments, **more)  # type: ignore[call-overload]
        wait_for(tmp_path / "child", seconds=30)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_client(["client"], folder=tmp_path, timeout_s=60)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert has_ended(int((tmp_path / "child").read_text()))
