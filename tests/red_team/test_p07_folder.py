"""A site that makes links of its own folder, to have the server read, write or delete elsewhere.

Until 0.1.0 the folder engine followed them: one site answered with another one's message, the
server deleted files outside the folder, and wrote its requests wherever the link led.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile_folder import HONEST, HOSTILE, SECRET, HostileFolder, seen_in
from phoenix_secure.federation.engines.envelope import Envelope
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.folder import replies_of, requests_of
from phoenix_secure.federation.engines.message_folder import MessageFolder

NO_REPLY = Failure(code=FailureCode.NO_REPLY)
MALFORMED = Failure(code=FailureCode.MALFORMED)
UNREACHABLE = Failure(code=FailureCode.UNREACHABLE)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[HostileFolder]:
    made = HostileFolder(tmp_path / "exchange")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the server's user, with a file whose name looks like a message's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "keep.msg").write_text("precious")
    return folder


def test_without_an_attack_every_site_answers(folders: HostileFolder) -> None:
    with folders.meddling(
        lambda name: replies_of(folders.root, HOSTILE).put(
            name, Envelope(kind="reply", site=HOSTILE, session="s", stage="x", body=b"honest")
        )
    ):
        assert folders.exchange(deadline_s=10) == Reply(body=b"honest")


@pytest.mark.parametrize("part", ["requests", "replies"])
def test_link_in_place_of_a_folder_is_not_followed(
    folders: HostileFolder, outside: Path, part: str
) -> None:
    folders.replace(folders.root / HOSTILE / part, lambda path: path.symlink_to(outside))
    seen = seen_in(outside, while_running=folders.exchange)
    folders.new_engine().close()
    assert seen == {"keep.msg"}
    assert (outside / "keep.msg").read_text() == "precious"


def test_link_in_place_of_the_sites_whole_folder_is_not_followed(
    folders: HostileFolder, outside: Path
) -> None:
    for part in ("requests", "replies"):
        (outside / part).mkdir()
        (outside / part / "keep.msg").write_text("precious")
    folders.replace(folders.root / HOSTILE, lambda path: path.symlink_to(outside))
    assert folders.exchange() == UNREACHABLE
    folders.new_engine().close()
    assert {p.name for p in outside.glob("*/*")} == {"keep.msg"}


def test_link_to_another_sites_replies_steals_no_answer(folders: HostileFolder) -> None:
    """The folder is another one's; so are the names in it."""
    folders.replace(folders.replies, lambda path: path.symlink_to(f"../{HONEST[0]}/replies"))
    assert folders.exchange() == NO_REPLY


@pytest.mark.long
def test_names_of_requests_are_no_other_sites(folders: HostileFolder) -> None:
    """Else a site knows what another one's answer is called before it comes."""
    seen = {site: set() for site in (HOSTILE, *HONEST)}
    for _ in range(3):
        with folders.meddling(lambda name: seen[HOSTILE].add(name)):
            for site in HONEST:
                requests = folders.root / site / "requests"
                seen[site] |= seen_in(
                    requests, while_running=lambda: folders.exchange(deadline_s=0.1)
                )
    names = [name for names in seen.values() for name in names if name.endswith(".msg")]
    assert len(names) == len(set(names)) > 9


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_reply_that_is_a_link_to_a_file_is_not_read(
    folders: HostileFolder, tmp_path: Path, make
) -> None:
    """Were it read, the answer of another plan or site would count as this one's."""
    other = Envelope(kind="reply", site=HOSTILE, session="s", stage="x", body=b"of another folder")
    MessageFolder(tmp_path).put("other", other)
    with folders.meddling(lambda name: make(tmp_path / "other", folders.replies / name)):
        assert folders.exchange(deadline_s=5) == MALFORMED
    assert MessageFolder(tmp_path).names() == []
    assert (tmp_path / "other").exists()


def test_folder_that_becomes_a_link_while_the_stage_is_open(
    folders: HostileFolder, outside: Path
) -> None:
    """The answer lies where the link leads, under the right name."""
    forged = Envelope(kind="reply", site=HOSTILE, session="s", stage="x", body=b"elsewhere")

    def swap(name: str) -> None:
        MessageFolder(outside).put(name, forged)
        for path in (folders.replies, folders.requests):
            folders.replace(path, lambda link: link.symlink_to(outside))

    with folders.meddling(swap):
        assert folders.exchange(deadline_s=1) == NO_REPLY
    assert (outside / "keep.msg").exists()
    assert len(list(outside.iterdir())) == 2


def test_folders_that_switch_all_the_time_lose_nothing_outside(
    folders: HostileFolder, outside: Path
) -> None:
    """A race between a check and its use would be won in some of these stages."""
    spare = folders.root / HOSTILE / "spare"
    stopped = threading.Event()

    def switch() -> None:
        while not stopped.is_set():
            # The engine makes a missing folder and fills it, so that any step may fail.
            with contextlib.suppress(OSError):
                folders.requests.rename(spare)
            with contextlib.suppress(OSError):
                folders.requests.symlink_to(outside)
            with contextlib.suppress(OSError):
                folders.requests.unlink()
            with contextlib.suppress(OSError):
                spare.rename(folders.requests)
            shutil.rmtree(spare, ignore_errors=True)

    def run() -> None:
        for _ in range(20):
            folders.exchange(deadline_s=0.02)

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        assert seen_in(outside, while_running=run) == {"keep.msg"}
    finally:
        stopped.set()
        thread.join()


def test_site_follows_no_links_either(
    tmp_path: Path, folders: HostileFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder is shared; who else writes there must not choose what a site reads or writes."""
    victim, elsewhere = HONEST[0], tmp_path / "elsewhere"
    elsewhere.mkdir()
    folders.replace(folders.root / victim / "replies", lambda path: path.symlink_to(elsewhere))
    request = Envelope(kind="request", site=victim, session="s", stage="x", body=SECRET)
    requests_of(folders.root, victim).put("1.msg", request)
    deadline = time.monotonic() + 10
    while f"waiting for the folder of {victim}" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(elsewhere.iterdir()) == []
