"""Namespaces of one machine in which parties have a network, users and file roots of their own.

A program calls ``run_inside``, which runs it once more as the first process of fresh mount, network
and process namespaces. All that is made there (network namespaces, links, mounts, users, processes)
ends with that process, however it ends; the folder with the file roots is then deleted out here.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["REPOSITORY", "cover_closed_folders", "quiet", "reason_against", "run_inside"]

REPOSITORY = Path(__file__).parents[1]
_COMMANDS = ("ip", "mount", "setpriv", "sh", "unshare")
_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# Everything that the harness asks of the kernel, in a second.
_TRIAL = """set -e
mount -t tmpfs tmpfs /run
ip netns add a
ip link add name trial0 type bridge
ip link add name trial1 type veth peer name net netns a
ip netns exec a ip addr add 2001:db8::1/64 dev net nodad
ip netns exec a setpriv --reuid=61000 --regid=61000 --clear-groups true
"""


def reason_against() -> str | None:
    """Why parties cannot be set apart on this machine; None where they can."""
    if sys.platform != "linux":
        return "namespaces need Linux"
    if os.geteuid() != 0:
        return "namespaces and users need root: run it with sudo"
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages iproute2, mount, util-linux)"
    tried = subprocess.run(  # noqa: S603 - fixed commands
        [*_UNSHARE, "sh", "-c", _TRIAL], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        said = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
        return f"this machine does not permit namespaces: {said[-1]}"
    return None


def run_inside(program: Path, arguments: Sequence[str], *, keep: Path | None = None) -> int:
    """Run ``program --inside FOLDER ARGUMENTS`` in fresh namespaces; its exit code.

    keep   a new folder for the file roots, which then stay; None: a temporary one

    Guarantee:  the namespaces end when this function or this process ends, by Ctrl-C or SIGTERM
                also; the temporary folder ends with the function.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Others must be able to pass through on their way to their own roots.
    if keep is not None:
        keep.mkdir(parents=True)
    out = keep or Path(tempfile.mkdtemp(prefix="phoenix-hosts-"))
    out.chmod(0o711)
    # A session of its own: Ctrl-C comes to this process alone, which then ends the namespaces.
    inner = subprocess.Popen(  # noqa: S603 - this program
        [
            *("setpriv", "--pdeathsig", "KILL", *_UNSHARE),
            *(sys.executable, str(program), "--inside", str(out.resolve()), *arguments),
        ],
        start_new_session=True,
    )
    try:
        return inner.wait()
    finally:
        inner.kill()
        inner.wait()
        signal.signal(signal.SIGTERM, before)
        if keep is None:
            shutil.rmtree(out, ignore_errors=True)


def quiet(*command: object, stdin: str | None = None) -> str:
    """Run a command of the system; what it printed.

    Raises:     RuntimeError with its last line.
    """
    done = subprocess.run(  # noqa: S603 - a list of arguments
        [str(part) for part in command], capture_output=True, text=True, check=False, input=stdin
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(map(str, command))}: {said}")
    return done.stdout


def cover_closed_folders(needed: Sequence[Path], *, stage: Path) -> list[Path]:
    """Let other users reach ``needed`` behind folders that are root's alone; those folders.

    Only in this mount namespace: an empty folder covers the closed one, and in it stands nothing
    but what is needed.
    """
    closed = sorted({folder for path in needed if (folder := _closed_ancestor(path))})
    for folder in closed:
        kept = [path.resolve() for path in needed if _closed_ancestor(path) == folder]
        kept = [path for path in kept if not any(other in path.parents for other in kept)]
        places = []
        for number, path in enumerate(kept):
            place = stage / str(number)
            place.mkdir(parents=True, exist_ok=True)
            quiet("mount", "--bind", path, place)
            places.append(place)
        quiet("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        for path, place in zip(kept, places, strict=True):
            path.mkdir(parents=True)
            quiet("mount", "--move", place, path)
    return closed


def _closed_ancestor(path: Path) -> Path | None:
    return next((each for each in _ancestors(path) if not each.stat().st_mode & stat.S_IXOTH), None)


def _ancestors(path: Path) -> Iterator[Path]:
    yield from reversed(path.resolve().parents)
