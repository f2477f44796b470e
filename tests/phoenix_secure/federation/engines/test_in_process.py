"""The in-process engine: real Flower messages, and every way in which a site can fail."""

from __future__ import annotations

import threading
import time

import pytest
from flwr.app import Message

from phoenix_secure.federation.engines.client_app import client_app
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.engines.in_process import InProcessGrid, in_process_engine
from phoenix_secure.federation.engines.wire import MESSAGE_TYPE, pack, unpack_reply

SITES = ("site-01", "site-02", "site-03")


def engine_of(handle, *, num_workers: int = 3, on_close=lambda: None) -> GridEngine:
    return in_process_engine(
        client_app(handle), sites=SITES, num_workers=num_workers, on_close=on_close
    )


def echo(site: str, stage: str, body: bytes) -> bytes:
    return f"{site}/{stage}/".encode() + body


def test_each_site_answers_its_own_request() -> None:
    engine = engine_of(echo)
    try:
        answers = engine.exchange("train", {site: site.encode() for site in SITES}, deadline_s=30)
    finally:
        engine.close()
    assert engine.sites == SITES
    assert list(answers) == list(SITES)
    for site, answer in answers.items():
        assert answer == Reply(body=f"{site}/train/{site}".encode())


def test_failures_leave_a_site_as_codes_and_nothing_else() -> None:
    private = "pixels of a patient"

    def handle(site: str, stage: str, body: bytes) -> bytes:
        if site == "site-01":
            raise SiteFailure(FailureCode.DIVERGED)
        if site == "site-02":
            raise RuntimeError(private)
        return b"fine"

    app = client_app(handle)
    grid = InProcessGrid(app, sites=SITES, num_workers=1)
    replies = list(
        grid.send_and_receive(
            [Message(pack("train", b""), node, MESSAGE_TYPE) for node in (2, 3, 4)], timeout=30
        )
    )
    grid.close()
    answers = [unpack_reply(reply, stage="train") for reply in replies]
    assert answers[0] == Failure(code=FailureCode.DIVERGED)
    assert answers[1] == Failure(code=FailureCode.ERROR)
    assert answers[2] == Reply(body=b"fine")
    assert all(private not in repr(reply) for reply in replies)
    assert replies[1].error.reason == "error"


def test_answer_to_another_stage_is_malformed() -> None:
    grid = InProcessGrid(client_app(echo), sites=SITES, num_workers=1)
    (reply,) = grid.send_and_receive([Message(pack("train", b""), 2, MESSAGE_TYPE)], timeout=30)
    grid.close()
    assert unpack_reply(reply, stage="mask") == Failure(code=FailureCode.MALFORMED)


def test_stage_closes_at_its_deadline_and_late_answers_are_lost() -> None:
    release = threading.Event()

    def handle(site: str, stage: str, body: bytes) -> bytes:
        if site == "site-03" and stage == "one":
            release.wait(30)
        return stage.encode()

    engine = engine_of(handle)
    try:
        first = engine.exchange("one", dict.fromkeys(SITES, b""), deadline_s=0.5)
        assert first["site-03"] == Failure(code=FailureCode.NO_REPLY)
        release.set()
        second = engine.exchange("two", dict.fromkeys(SITES, b""), deadline_s=30)
        assert second == dict.fromkeys(SITES, Reply(body=b"two"))
    finally:
        release.set()
        engine.close()


def test_stage_closes_after_quorum_and_grace() -> None:
    release = threading.Event()

    def handle(site: str, stage: str, body: bytes) -> bytes:
        if site == "site-02":
            release.wait(30)
        return b"ok"

    engine = engine_of(handle)
    started = time.monotonic()
    try:
        answers = engine.exchange(
            "train", dict.fromkeys(SITES, b""), deadline_s=30, quorum=2, grace_s=0.1
        )
    finally:
        release.set()
        engine.close()
    assert time.monotonic() - started < 20
    assert answers["site-02"] == Failure(code=FailureCode.NO_REPLY)
    assert isinstance(answers["site-01"], Reply)


def test_closing_tells_running_sites_to_stop() -> None:
    stop, started = threading.Event(), threading.Event()

    def handle(site: str, stage: str, body: bytes) -> bytes:
        started.set()
        assert stop.wait(30)
        raise SiteFailure(FailureCode.CANCELLED)

    engine = engine_of(handle, num_workers=1, on_close=stop.set)
    caller = threading.Thread(
        target=engine.exchange, args=("train", {"site-01": b""}), kwargs={"deadline_s": 30}
    )
    caller.start()
    assert started.wait(30)
    engine.close()
    caller.join(30)
    assert not caller.is_alive()


def test_a_large_body_is_handed_over_and_never_copied() -> None:
    """It is bytes, which nobody can change: a copy would only take memory and time."""
    seen: list[bytes] = []

    def keep(site: str, stage: str, body: bytes) -> bytes:
        seen.append(body)
        return body

    engine = engine_of(keep)
    body = bytes(range(256)) * 1000
    try:
        answer = engine.exchange(
            "train", {"site-01": body}, deadline_s=30, max_reply_bytes=len(body)
        )["site-01"]
    finally:
        engine.close()
    assert isinstance(answer, Reply)
    assert answer.body == bytes(range(256)) * 1000
    assert answer.body is seen[0] is body


def test_what_is_around_a_body_is_serialised_and_shared_with_nobody() -> None:
    content = pack("train", b"body")
    sent = Message(content, 2, MESSAGE_TYPE)
    seen: list[Message] = []

    def keep(message: Message, context: object) -> Message:
        seen.append(message)
        return Message(pack("train", b"answer"), reply_to=message)

    grid = InProcessGrid(keep, sites=SITES, num_workers=1)
    (reply,) = grid.send_and_receive([sent], timeout=30)
    grid.close()
    assert unpack_reply(reply, stage="train") == Reply(body=b"answer")
    assert seen[0] is not sent
    assert seen[0].content is not content
    seen[0].content["phoenix"]["stage"] = "changed by a site"
    assert content["phoenix"]["stage"] == "train"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_sites_share_no_more_threads_than_asked(num_workers: int) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def handle(site: str, stage: str, body: bytes) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return b""

    engine = engine_of(handle, num_workers=num_workers)
    try:
        engine.exchange("train", dict.fromkeys(SITES, b""), deadline_s=30)
    finally:
        engine.close()
    assert most == num_workers
