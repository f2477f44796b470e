"""An answer whose content never comes holds up neither the other sites nor the stage."""

from __future__ import annotations

import itertools
import threading
import time

import httpx
import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from phoenix_secure.federation.engines import flower_task
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.flower_task import _LosableGrid
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.engines.wire import pack

NODES = {"site-1": 1, "site-2": 2}


class Answer:
    """A reply as GridEngine reads it."""

    def __init__(self, message_id: str) -> None:
        self.metadata = type("Metadata", (), {"reply_to_message_id": message_id})()
        self.content = pack("mask", b"answer")

    def has_error(self) -> bool:
        return False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch):
    """``fetch`` stands for the blocking call; each test says what it does."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    grid = _LosableGrid.__new__(_LosableGrid)
    grid._pulls, grid._limits, grid._slots = {}, {}, threading.Semaphore(2)
    monkeypatch.setattr(flower_task._LosableGrid, "_PATIENCE_S", 0.3)

    numbers = itertools.count()

    def push(self, messages: list[Message]) -> list[str]:
        return [f"{message.metadata.dst_node_id}-{next(numbers)}" for message in messages]

    monkeypatch.setattr(HttpGrid, "push_messages", push)

    def use(fetch) -> GridEngine:
        def fetched(self, message_id, max_bytes, abandoned):
            found = fetch(message_id)
            if found:
                assert self._slots.acquire(timeout=30)
            return found[0] if found else None

        monkeypatch.setattr(_LosableGrid, "_fetch", fetched)
        return GridEngine(grid, nodes=NODES)

    return use


def ask(engine: GridEngine, *, deadline_s: float = 1.0):
    return engine.exchange("mask", dict.fromkeys(NODES, b""), deadline_s=deadline_s)


def test_upload_that_hangs_costs_one_answer_and_no_time(engine) -> None:
    release = threading.Event()

    def fetch(message_id: str):
        if message_id.startswith("2"):
            release.wait(30)
        return [Answer(message_id)]

    started = time.monotonic()
    answers = ask(engine(fetch))
    release.set()
    assert time.monotonic() - started < 10
    assert answers == {
        "site-1": Reply(body=b"answer"),
        "site-2": Failure(code=FailureCode.NO_REPLY),
    }


def test_refusal_ends_the_stage_and_marks_the_engine_lost(engine) -> None:
    def fetch(message_id: str):
        request = httpx.Request("POST", "https://x")
        raise httpx.HTTPStatusError("401", request=request, response=httpx.Response(401))

    lost = engine(fetch)
    assert set(ask(lost, deadline_s=30).values()) == {Failure(code=FailureCode.UNREACHABLE)}
    assert lost.is_lost


def test_missed_calls_are_tried_again_until_patience_ends(engine) -> None:
    calls: list[str] = []

    def stutter(message_id: str):
        calls.append(message_id)
        if calls.count(message_id) < 2:
            raise httpx.ReadTimeout("busy")
        return [Answer(message_id)]

    assert all(isinstance(a, Reply) for a in ask(engine(stutter), deadline_s=30).values())

    def silent(message_id: str):
        raise httpx.ConnectError("gone")

    lost = engine(silent)
    ask(lost, deadline_s=30)
    assert lost.is_lost


@pytest.mark.long
def test_superlink_that_is_busy_is_not_taken_for_gone(engine) -> None:
    """A call's timeout is 30 s, longer than the patience with one that refuses connections."""

    def busy(message_id: str):
        raise httpx.ReadTimeout("busy")

    carrier = engine(busy)
    answers = ask(carrier, deadline_s=1.5)
    assert set(answers.values()) == {Failure(code=FailureCode.NO_REPLY)}
    assert not carrier.is_lost


@pytest.mark.long
def test_threads_of_a_closed_stage_stop_asking(engine) -> None:
    late: list[str] = []

    def fetch(message_id: str):
        late.append(message_id)
        return []

    carrier = engine(fetch)
    ask(carrier, deadline_s=0.3)
    carrier._grid.pull_messages([])
    time.sleep(0.5)
    count = len(late)
    time.sleep(0.6)
    assert len(late) == count


def test_a_call_under_which_the_connection_is_closed_ends_quietly(
    engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, others = [], set(threading.enumerate())
    monkeypatch.setattr(threading, "excepthook", ends.append)
    client = httpx.Client()
    is_asking, is_closed = threading.Event(), threading.Event()

    def fetch(message_id: str):
        is_asking.set()
        is_closed.wait(5)
        client.get("http://127.0.0.1:1/")

    carrier = engine(fetch)
    asking = threading.Thread(target=ask, args=(carrier,), kwargs={"deadline_s": 0.3})
    asking.start()
    assert is_asking.wait(5)
    asking.join()
    pulls = list(carrier._grid._pulls.values())
    carrier._grid.pull_messages([])  # nobody waits any more
    client.close()
    is_closed.set()
    assert pulls
    for thread in set(threading.enumerate()) - others:
        thread.join(10)
    assert not ends
