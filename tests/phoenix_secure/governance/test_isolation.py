"""What importing and using PySyft's parts does to a process; who does not import them at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from warm_processes import loaded_with

WATCH = """
import sys, threading
calls = []
def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")):
        calls.append(event)
sys.addaudithook(watch)
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_parts_we_import_open_no_socket_and_start_no_thread_or_process() -> None:
    code = """
import syft_job.client, syft_job.config, syft_datasets.dataset_manager
print(calls, [t.name for t in threading.enumerate()], "syft" in sys.modules)
"""
    assert python(code) == "[] ['MainThread'] False"


def test_a_proposal_goes_its_whole_way_without_socket_thread_or_process(tmp_path) -> None:
    code = f"""
from pathlib import Path
from phoenix_secure.governance.syftbox import OwnerBox, submit_job
before = [t.name for t in threading.enumerate()]
calls.clear()
root = Path({str(tmp_path)!r})
submit_job(root, {{"main.py": b"x", "plan.json": b"{{}}"}}, coordinator="c@x.y", owner="o@x.y",
           name="p")
box = OwnerBox(root, owner="o@x.y", coordinator="c@x.y")
(job,) = box.jobs()
box.accept(job, consent=b"signed", digest="00")
print(box.status(job), calls, [t.name for t in threading.enumerate()] == before)
"""
    assert python(code) == "done [] True"


@pytest.mark.long
def test_the_package_itself_binds_one_loopback_socket_and_connects_nowhere() -> None:
    """urllib3 looks whether the machine has IPv6; this is why we don't import ``syft``."""
    out = python("import syft\nprint('socket.connect' in calls, threading.active_count())")
    assert out == "False 1"


@pytest.mark.long
def test_nothing_but_governance_imports_pysyft(tmp_path: Path) -> None:
    """Neither a site that serves a federation nor a run; ``test_start_up`` asks every help page."""
    loaded = loaded_with(
        "phoenix_secure.federation.deployment.site_process", output=tmp_path / "loaded"
    )
    assert {"torch", "flwr", "phoenix_secure.cli.session"} <= loaded
    assert not [name for name in loaded if name.startswith("syft")]
