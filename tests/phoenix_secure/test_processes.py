"""Children: restarted when they die, stopped when we stop, gone when we are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from phoenix_secure.processes import Child, Supervisor


def child_of(tmp_path: Path, code: str, *, name: str = "child") -> Child:
    return Child(
        name=name,
        command=[sys.executable, "-c", code],
        environment=dict(os.environ),
        log=tmp_path / "logs" / f"{name}.log",
    )


def wait_for(condition, *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_dead_child_is_started_again_after_a_pause(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    said: list[str] = []
    code = f"open({str(marks)!r}, 'a').write('x'); print('port in use'); raise SystemExit(3)"
    supervisor = Supervisor([child_of(tmp_path, code)], say=said.append, first_pause_s=0.1)
    supervisor.start()
    started: list[str] = []
    try:
        wait_for(lambda: started.extend(supervisor.check()) or len(started) >= 2)
        wait_for(lambda: marks.read_text().count("x") >= 3)
    finally:
        supervisor.stop()
    assert started[:2] == ["child", "child"]
    assert "ended with 3" in said[0]
    assert said[0].endswith(": port in use")  # the reason stands on the terminal, too
    pauses = [float(line.split("again in ")[1].split(" s")[0]) for line in said]
    assert pauses == sorted(pauses)


def test_children_that_ignore_sigterm_are_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(ready)!r}, 'w').close(); time.sleep(60)"
    )
    supervisor = Supervisor([child_of(tmp_path, code)], say=print)
    supervisor.start()
    wait_for(ready.exists)
    before = time.monotonic()
    supervisor.stop(patience_s=0.3)
    assert time.monotonic() - before < 10


@pytest.mark.long
def test_children_die_with_a_parent_that_got_sigkill(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        "from phoenix_secure.processes import die_with_parent; die_with_parent(); "
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not psutil.pid_exists(pid))


def test_output_goes_to_a_private_log(tmp_path: Path) -> None:
    supervisor = Supervisor([child_of(tmp_path, "print('hello')")], say=lambda text: None)
    supervisor.start()
    log = tmp_path / "logs" / "child.log"
    wait_for(lambda: log.read_text() == "hello\n")
    supervisor.stop()
    assert log.stat().st_mode & 0o077 == 0
