"""A site that breaks its own folder, to take the server, or the other sites' round, down with it.

Until 0.1.0 a file in place of a folder, or an answer that came and went, ended the run.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostile_folder import HOSTILE, NAMES, SECRET, HostileFolder
from phoenix_secure.errors import StorageError
from phoenix_secure.federation.engines.envelope import Envelope
from phoenix_secure.federation.engines.exchange import SMALL_REPLY_BYTES, Failure, FailureCode
from phoenix_secure.federation.engines.message_folder import MessageFolder

NO_REPLY = Failure(code=FailureCode.NO_REPLY)
MALFORMED = Failure(code=FailureCode.MALFORMED)
UNREACHABLE = Failure(code=FailureCode.UNREACHABLE)
_open: list[int] = []  # pipes that a hostile site keeps open


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[HostileFolder]:
    made = HostileFolder(tmp_path / "exchange")
    try:
        yield made
    finally:
        made.close()
        while _open:
            os.close(_open.pop())


def a_file(path: Path) -> None:
    path.write_text("")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def an_answer_in_a_pipe(path: Path) -> None:
    os.mkfifo(path)
    _open.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    os.write(_open[-1], Envelope(kind="reply", site=HOSTILE, session="s", stage="x").to_bytes())


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: never ends
    except PermissionError:
        pytest.skip("only root makes devices")


def a_folder(path: Path) -> None:
    (path / "full.msg").mkdir(parents=True)


def a_hole(path: Path, *, announced: int) -> None:
    head = Envelope(kind="reply", site=HOSTILE, session="s", stage="x").to_bytes()
    header = head[8:].replace(b'"size": 0', b'"size": %d' % announced)
    path.write_bytes(b"PHXF" + len(header).to_bytes(4, "big") + header)
    os.truncate(path, 1 << 40)


def a_short_hole(path: Path) -> None:
    a_hole(path, announced=SMALL_REPLY_BYTES)


def a_long_hole(path: Path) -> None:
    a_hole(path, announced=1 << 39)


def rubbish(path: Path) -> None:
    path.write_bytes(b"PHXF\xff\xff\xff\xff" + bytes(1000))


NO_FOLDERS = [a_file, a_pipe, a_loop, a_device]
NO_ANSWERS = [
    a_pipe,
    an_answer_in_a_pipe,
    a_loop,
    a_device,
    a_folder,
    a_short_hole,
    a_long_hole,
    rubbish,
]


@pytest.mark.parametrize("part", ["", "requests"])
@pytest.mark.parametrize("make", NO_FOLDERS)
def test_site_whose_folder_is_something_else_is_unreachable(
    folders: HostileFolder, caplog: pytest.LogCaptureFixture, part: str, make: Callable
) -> None:
    folders.replace(folders.root / HOSTILE / part, make)
    assert folders.exchange() == UNREACHABLE
    # And so it is for a server that starts only then; the log says whose folder it is.
    caplog.clear()
    folders.engine = folders.new_engine()
    assert f"the folder of {HOSTILE} below" in caplog.text
    assert folders.exchange() == UNREACHABLE


@pytest.mark.parametrize("make", NO_FOLDERS)
def test_site_whose_replies_are_something_else_gave_no_reply(
    folders: HostileFolder, make: Callable
) -> None:
    folders.replace(folders.replies, make)
    assert folders.exchange() == NO_REPLY


@pytest.mark.parametrize("make", NO_ANSWERS)
def test_answer_that_is_something_else_is_malformed(folders: HostileFolder, make: Callable) -> None:
    tracemalloc.start()
    try:
        with folders.meddling(lambda name: make(folders.replies / name)):
            assert folders.exchange(deadline_s=5) == MALFORMED
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    # The next stage does not suffer from what is left.
    assert folders.exchange(deadline_s=0.1) == NO_REPLY


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("part", ["", "requests"])
def test_folder_that_the_server_may_not_open(folders: HostileFolder, part: str) -> None:
    path = folders.root / HOSTILE / part
    path.chmod(0)
    try:
        assert folders.exchange() == UNREACHABLE
        folders.new_engine().close()
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize("part", ["", "requests", "replies"])
def test_folder_that_is_deleted_while_the_stage_is_open(folders: HostileFolder, part: str) -> None:
    with folders.meddling(lambda name: shutil.rmtree(folders.root / HOSTILE / part)):
        assert folders.exchange() == NO_REPLY
    # What comes back is used again.
    assert folders.exchange(deadline_s=0.1) == NO_REPLY
    assert folders.requests.is_dir()


def test_answer_that_comes_and_goes(folders: HostileFolder) -> None:
    """Between a look and the opening the file may be gone."""
    stopped = threading.Event()

    def flicker(name: str) -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                (folders.replies / name).touch()
                (folders.replies / name).unlink()

    with folders.meddling(flicker):
        try:
            assert folders.exchange(deadline_s=0.5) in (NO_REPLY, MALFORMED)
        finally:
            stopped.set()


@pytest.mark.long
def test_crowded_folder_costs_bounded_time_and_memory(folders: HostileFolder) -> None:
    for number in range(12_000):
        (folders.replies / f"{number}.msg").touch()
    tracemalloc.start()
    try:
        with folders.meddling(lambda name: (folders.replies / name).write_bytes(b"")):
            # An empty file is a copy that has just begun, for all that the server knows.
            assert folders.exchange(deadline_s=2) == NO_REPLY
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(list(folders.replies.iterdir())) > 0  # a sweep removes some of them


def test_no_handle_is_left_open(folders: HostileFolder) -> None:
    """A server that leaks one a stage ends after a few hundred."""
    for make in (a_pipe, a_folder, a_loop):
        with folders.meddling(lambda name, make=make: make(folders.replies / name)):
            folders.exchange(deadline_s=1)
    folders.replace(folders.requests, a_file)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        folders.exchange(deadline_s=0.01)
    assert len(os.listdir("/proc/self/fd")) <= before + len(NAMES)


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """No file may become longer than a page, as on a full disk or beyond a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_request_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = MessageFolder(tmp_path, HOSTILE, "requests")
    request = Envelope(kind="request", site=HOSTILE, session="s", stage="x", body=SECRET)
    with no_room(), pytest.raises(OSError, match="too large"):
        folder.put("1.msg", request)
    assert list((tmp_path / HOSTILE / "requests").iterdir()) == []


def test_root_that_is_gone_ends_the_run_with_one_line(folders: HostileFolder) -> None:
    """It is no site's: a stick that was taken out, a share that is not mounted."""
    folders.exchange(deadline_s=0.01)
    folders.root.rename(folders.root.with_name("elsewhere"))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*exchange"):
            folders.engine.exchange("x", {HOSTILE: b"q"}, deadline_s=1)
    finally:
        folders.root.with_name("elsewhere").rename(folders.root)
