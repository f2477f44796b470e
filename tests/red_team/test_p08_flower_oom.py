"""A registered site that answers with far more than a round has room for, or more often.

Until 0.1.0 the SuperLink and the process of the rounds kept all that a site sent: 600 MiB in the
place of an answer of 200 bytes, from every site and in every stage.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import get_object_tree

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.wire import PART_BYTES, max_stored_bytes
from scripted_sites import order
from superlink_memory import Network, Node

MALFORMED = Failure(code=FailureCode.MALFORMED)
LIMIT = 300
SIZE = 1 << 20


@pytest.fixture
def network() -> Iterator[Network]:
    found = Network(("a", "b"))
    yield found
    found.close()


def asked(
    network: Network,
    attack: Callable[[Node, Message], object],
    *,
    limit: int = LIMIT,
    deadline_s: float = 20.0,
) -> dict[str, Reply | Failure]:
    """A stage in which ``a`` attacks and ``b``, who answers afterwards, is honest."""
    found: dict[str, Reply | Failure] = {}
    stage = threading.Thread(
        target=lambda: found.update(
            network.engine.exchange(
                "announce", {"a": b"", "b": b""}, deadline_s=deadline_s, max_reply_bytes=limit
            )
        )
    )
    stage.start()
    requests = {name: received(node) for name, node in network.nodes.items()}
    attack(network.nodes["a"], requests["a"])
    honest = network.nodes["b"]
    honest.upload(honest.reply(requests["b"], b"keys"))
    stage.join(30)
    return found


def received(node: Node) -> Message:
    while (request := node.receive()) is None:
        time.sleep(0.01)
    return request


def test_answer_of_many_objects_is_refused_before_one_is_taken(network: Network) -> None:
    taken = []

    def attack(node: Node, request: Message) -> None:
        content = RecordDict({str(n): ConfigRecord({"n": n}) for n in range(1000)})
        taken.append(node.upload(Message(content, reply_to=request)))

    assert asked(network, attack) == {"a": MALFORMED, "b": Reply(body=b"keys")}
    assert taken == [0]
    assert network.stored_bytes == 0


def test_one_object_above_the_quota_is_refused_when_it_comes(network: Network) -> None:
    kept = []

    def attack(node: Node, request: Message) -> None:
        node.upload(node.reply(request, os.urandom(PART_BYTES // 4)))
        kept.append(network.stored_bytes)

    assert asked(network, attack) == {"a": MALFORMED, "b": Reply(body=b"keys")}
    assert kept[0] <= max_stored_bytes(LIMIT)


def test_shared_part_costs_its_sender_nothing_and_is_counted_each_time(network: Network) -> None:
    """A hundred records of one object: a quarter of a MiB on the wire, 25 MiB in memory."""

    def attack(node: Node, request: Message) -> None:
        part = ConfigRecord({"bytes": os.urandom(PART_BYTES // 16)})
        content = RecordDict({"phoenix": ConfigRecord({"stage": "announce", "parts": 100})})
        for number in range(100):
            content[f"phoenix.{number}"] = part
        assert node.upload(Message(content, reply_to=request)) == 4

    answers = asked(network, attack, limit=PART_BYTES)
    assert answers == {"a": MALFORMED, "b": Reply(body=b"keys")}


def test_second_list_of_objects_under_one_answer_is_refused(network: Network) -> None:
    """Announced again with other objects, an answer would grow without end."""

    def attack(node: Node, request: Message) -> None:
        honest = node.reply(request, b"keys")
        node.upload(honest)
        for number in range(50):
            more = ObjectTree(object_id=honest.object_id)
            more.children.append(ObjectTree(object_id=f"{number:064x}"))
            assert list(node.announce(honest, tree=more).objects_to_push) == []

    asked(network, attack)
    assert len(network.state.object_store.store) <= 6
    assert len(network.state._object_push_sessions) <= 2


def test_answers_to_what_nobody_asks_any_more_are_not_kept(network: Network) -> None:
    old: list[Message] = []
    for _ in range(3):
        requests = {name: b"" for name in network.nodes}
        network.engine.exchange("train", requests, deadline_s=0.05, max_reply_bytes=SIZE)
        old.append(received(network.nodes["a"]))
    for request in old:
        node = network.nodes["a"]
        node.upload(node.reply(request, os.urandom(SIZE)))
    # Requests are small here: what is kept is the answer to the newest.
    assert network.stored_bytes < SIZE + (64 << 10)
    network.engine.exchange("next", requests, deadline_s=0.05)
    assert network.stored_bytes < 64 << 10


def test_nobody_answers_in_the_name_of_another_site(network: Network) -> None:
    def attack(node: Node, request: Message) -> None:
        other = network.nodes["b"]
        with pytest.raises(FlowerError):
            other.announce(node.reply(request, b"keys of b"))

    answers = asked(network, attack, deadline_s=0.7)
    assert answers == {"a": Failure(code=FailureCode.NO_REPLY), "b": Reply(body=b"keys")}


def test_objects_that_make_no_message_cost_their_sender_its_answer(network: Network) -> None:
    def attack(node: Node, request: Message) -> None:
        honest = node.reply(request, b"keys")
        tree = get_object_tree(honest)
        del tree.children[:]
        answer = node.announce(honest, tree=tree)
        node.push(answer.session_id, honest.object_id, honest.deflate())

    assert asked(network, attack) == {"a": MALFORMED, "b": Reply(body=b"keys")}


def test_site_that_confirms_too_early_misses_its_request_and_stops_nobody(
    network: Network,
) -> None:
    """The server's upload then finds nothing to put its content in."""
    client, push = network.grid._client, network.grid._client.PushMessages

    def pushed_and_confirmed(request):
        answer = push(request)
        node = network.nodes["a"]
        if request.messages_list[0].metadata.dst_node_id == node.node_id:
            node.confirm(answer.message_ids[0])
        return answer

    client.PushMessages = pushed_and_confirmed
    found: dict[str, Reply | Failure] = {}
    stage = threading.Thread(
        target=lambda: found.update(
            network.engine.exchange("announce", {"a": b"x", "b": b"y"}, deadline_s=20)
        )
    )
    stage.start()
    honest = network.nodes["b"]
    honest.upload(honest.reply(received(honest), b"keys"))
    stage.join(30)
    assert found == {
        "a": Failure(code=FailureCode.UNREACHABLE),
        "b": Reply(body=b"keys"),
    }


@pytest.mark.parametrize("num_objects", [1, 1000])
def test_process_of_the_rounds_counts_what_it_fetches(num_objects: int) -> None:
    """Whatever SuperLink it is behind."""
    network = Network(("a", "b"), stock=True)

    def attack(node: Node, request: Message) -> None:
        content = RecordDict(
            {
                f"phoenix.{n}": ConfigRecord({"bytes": os.urandom(40_000)})
                for n in range(num_objects)
            }
        )
        content["phoenix"] = ConfigRecord({"stage": "announce", "parts": num_objects})
        node.upload(Message(content, reply_to=request))

    assert asked(network, attack) == {"a": MALFORMED, "b": Reply(body=b"keys")}
    network.close()


def test_every_stage_of_a_round_states_how_long_its_answers_are(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path, num_sites=5, num_parameters=50_000)
    parties.sum(1)
    limits, received = parties.engine.limits, parties.engine.received
    for stage in ("announce", "share", "mask", "check", "unmask"):
        longest = max(len(body) for asked, _, body in received if asked == stage)
        assert longest <= limits[stage] < longest + 300
    assert limits["announce"] < 300


@pytest.mark.slow
def test_six_hundred_mebibytes_at_a_real_superlink(tmp_path: Path) -> None:
    """The engine as a run makes it: with no limit of its own."""
    from flower_harness import FlowerHarness

    harness = FlowerHarness(tmp_path, sites=("a", "b"), session="s", max_reply_bytes=None)
    try:
        superlink = psutil.Process(harness.processes["superlink"].pid)
        watched = {"SuperLink": superlink, "rounds": psutil.Process()}
        before = {name: process.memory_info().rss for name, process in watched.items()}
        grown = dict.fromkeys(watched, 0)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                for name, process in watched.items():
                    grown[name] = max(grown[name], process.memory_info().rss - before[name])

        threading.Thread(target=watch, daemon=True).start()
        answers = harness.engine.exchange(
            "announce",
            {"a": order("flood", size=600 << 20), "b": order("echo")},
            deadline_s=240,
            quorum=1,
            grace_s=200,
        )
        done.set()
        assert answers["a"] == MALFORMED
        assert isinstance(answers["b"], Reply)
        assert all(size < 64 << 20 for size in grown.values()), grown
        # The site is not lost by it.
        again = harness.engine.exchange("share", {"a": order("echo")}, deadline_s=60)
        assert isinstance(again["a"], Reply)
    finally:
        harness.close()
