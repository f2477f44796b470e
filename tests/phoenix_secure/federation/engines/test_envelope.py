"""Files between server and site: whole or refused, whatever lies in the folder."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError, StorageError
from phoenix_secure.federation.engines.envelope import Envelope, MalformedEnvelope
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.folder import FolderEngine, replies_of, requests_of
from phoenix_secure.federation.engines.folder_site import serve_folder
from phoenix_secure.federation.engines.message_folder import MessageFolder

REQUEST = Envelope(kind="request", site="a", session="s", stage="train", body=b"body")


@given(body=st.binary(max_size=2000), session=st.text(max_size=80), stage=st.text(max_size=80))
def test_reading_gives_back_what_was_written(body: bytes, session: str, stage: str) -> None:
    envelope = Envelope(kind="reply", site="a", session=session, stage=stage, code="x", body=body)
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope


def test_every_truncation_and_every_flipped_byte_of_the_body_is_refused() -> None:
    whole = REQUEST.to_bytes()
    for size in range(len(whole)):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_bytes(whole[:size])
    for position in range(len(whole) - len(REQUEST.body), len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        with pytest.raises(MalformedEnvelope):
            Envelope.from_bytes(bytes(damaged))


@given(data=st.binary(max_size=300))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    for prefix in (b"", b"PHXF", b"PHXF\x00\x00\x00\x10"):
        with pytest.raises(MalformedEnvelope):
            Envelope.from_bytes(prefix + data)


def test_deeply_nested_json_is_refused() -> None:
    header = b"[" * 4000
    with pytest.raises(MalformedEnvelope):
        Envelope.from_bytes(b"PHXF" + len(header).to_bytes(4, "big") + header)


def test_links_pipes_and_large_files_are_refused(tmp_path: Path) -> None:
    folder = MessageFolder(tmp_path)
    folder.put("secret", REQUEST)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(MalformedEnvelope):
            folder.read(name, max_bytes=10_000)
    with pytest.raises(MalformedEnvelope):
        folder.read("secret", max_bytes=len(REQUEST.body) - 1)
    assert folder.read("secret", max_bytes=len(REQUEST.body)) == REQUEST
    with pytest.raises(FileNotFoundError):
        folder.read("nothing", max_bytes=10_000)


def sparse(path: Path, *, announced: int, size: int) -> None:
    """An envelope whose body is a hole of ``size`` bytes: it takes nothing on the disk."""
    head = Envelope(kind="request", site="a", session="s", stage="x", body=b"").to_bytes()
    header = head[8:].replace(b'"size": 0', b'"size": %d' % announced)
    path.write_bytes(b"PHXF" + len(header).to_bytes(4, "big") + header)
    os.truncate(path, path.stat().st_size + size)


@pytest.mark.parametrize("announced", [0, 100, 1 << 40])
def test_sparse_files_are_measured_by_their_content(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "x.msg"
    sparse(path, announced=announced, size=1 << 40)
    assert path.stat().st_blocks < 64
    tracemalloc.start()
    try:
        with pytest.raises(MalformedEnvelope):
            MessageFolder(tmp_path).read(path.name, max_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", ["-1", "1.0", "true", "null", '"4"'])
def test_sizes_that_are_no_size_are_refused(size: str) -> None:
    whole = REQUEST.to_bytes()
    header = whole[8 : -len(REQUEST.body)].replace(b'"size": 4', f'"size": {size}'.encode())
    with pytest.raises(MalformedEnvelope):
        Envelope.from_bytes(b"PHXF" + len(header).to_bytes(4, "big") + header + REQUEST.body)


def test_half_written_files_are_never_seen(tmp_path: Path) -> None:
    """Thousands of looks at a file that is replaced all the time find it whole each time."""
    folder, stop = MessageFolder(tmp_path), threading.Event()
    folder.put("x.msg", REQUEST)

    def keep_writing() -> None:
        for size in range(200):
            body = bytes(size * 500)
            folder.put("x.msg", Envelope(kind="request", site="a", session="", stage="", body=body))
        stop.set()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    looks = 0
    while not stop.is_set():
        folder.read("x.msg", max_bytes=1 << 20)
        looks += 1
    writer.join()
    assert looks > 0


def engine_of(root: Path) -> FolderEngine:
    return FolderEngine(root, sites=["a", "b"], session="s", poll_s=0.01)


def test_requests_and_answers_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    engine_of(tmp_path)
    requests_of(tmp_path, "a").put("old.msg", REQUEST)
    replies_of(tmp_path, "b").put("old.msg", REQUEST)
    engine_of(tmp_path)
    assert not list(tmp_path.glob("*/*/*.msg"))


def test_unanswered_requests_are_withdrawn_when_the_stage_closes(tmp_path: Path) -> None:
    answers = engine_of(tmp_path).exchange("train", {"a": b"x", "b": b"y"}, deadline_s=0.05)
    assert set(answers.values()) == {Failure(code=FailureCode.NO_REPLY)}
    assert not list(tmp_path.glob("*/*/*.msg"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "request"},
        {"site": "b"},
        {"session": "another plan"},
        {"stage": "mask"},
        {"code": "made-up"},
    ],
)
def test_answers_of_another_stage_site_or_session_are_malformed(tmp_path: Path, change) -> None:
    fields = {"kind": "reply", "site": "a", "session": "s", "stage": "train", "body": b"z"}
    stop = threading.Event()

    def forge() -> None:
        while not stop.is_set():
            for name in requests_of(tmp_path, "a").names():
                replies_of(tmp_path, "a").put(name, Envelope(**(fields | change)))
                return

    engine = engine_of(tmp_path)
    forger = threading.Thread(target=forge)
    forger.start()
    try:
        answers = engine.exchange("train", {"a": b"x"}, deadline_s=20)
    finally:
        stop.set()
        forger.join()
    assert answers == {"a": Failure(code=FailureCode.MALFORMED)}


def test_site_survives_rubbish_in_its_inbox(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    inbox = tmp_path / "a" / "requests"
    (inbox / "0.msg").write_bytes(b"rubbish")
    (inbox / "1.msg").symlink_to("/etc/hostname")
    (inbox / "2.msg").mkdir()
    stranger = Envelope(kind="request", site="b", session="", stage="")
    requests_of(tmp_path, "a").put("3.msg", stranger)
    stop = threading.Event()
    site = threading.Thread(
        target=serve_folder,
        args=(tmp_path,),
        kwargs={"site": "a", "handle": lambda request: b"fine", "stop": stop, "poll_s": 0.01},
    )
    site.start()
    try:
        assert engine.exchange("train", {"a": b""}, deadline_s=20) == {"a": Reply(body=b"fine")}
    finally:
        stop.set()
        site.join()


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../a", "a/b", "", "."):
        with pytest.raises(ConfigError, match="site name"):
            FolderEngine(tmp_path, sites=[name])


def test_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        FolderEngine(tmp_path / "file", sites=["a"])
