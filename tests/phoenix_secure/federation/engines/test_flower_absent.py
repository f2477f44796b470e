"""Who is asked at all: sites that Flower knows to be offline cost no grace time."""

from __future__ import annotations

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.engines.flower_address import FlowerAddress
from phoenix_secure.federation.engines.stage import Stage

KEYS = {f"site-{i}": bytes([i]) for i in range(1, 6)}


class Carrier:
    """Stands for the connection: everybody who is asked answers."""

    is_lost = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def exchange(self, stage, requests, **how):
        self.asked.append(tuple(requests))
        for name in ("quorum", "max_reply_bytes"):
            how.pop(name)
        open_stage = Stage(requests, quorum=None, **how)
        for site in requests:
            open_stage.settle(site, Reply(body=b"x"))
        return open_stage.answers()


def engine_with(statuses: list[dict[str, str]], *, gather_s: float = 5.0):
    """Flower's list of nodes goes through ``statuses`` and stays at the last one."""
    engine = FlowerEngine(
        FlowerAddress(address="127.0.0.1:1"), nodes=KEYS, session="s", gather_s=gather_s
    )
    engine._engine = carrier = Carrier()

    def nodes():
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        return {KEYS[site]: (1, how) for site, how in status.items()}

    engine._nodes = nodes
    return engine, carrier


def ask(engine, *, quorum):
    return engine.exchange("mask", dict.fromkeys(KEYS, b""), deadline_s=30, quorum=quorum)


def test_offline_sites_are_unreachable_at_once() -> None:
    up = dict.fromkeys(KEYS, "online") | {"site-3": "offline"}
    engine, carrier = engine_with([up])
    answers = ask(engine, quorum=4)
    assert answers["site-3"] == Failure(code=FailureCode.UNREACHABLE)
    assert list(answers) == list(KEYS)
    assert carrier.asked == [("site-1", "site-2", "site-4", "site-5")]


def test_a_quorum_is_waited_for() -> None:
    one = {"site-1": "online"}
    engine, carrier = engine_with([one, one, dict.fromkeys(KEYS, "online")])
    assert all(isinstance(answer, Reply) for answer in ask(engine, quorum=4).values())
    assert len(carrier.asked[0]) == 5


def test_waiting_for_a_quorum_ends() -> None:
    engine, carrier = engine_with([{"site-1": "online"}], gather_s=0.6)
    answers = ask(engine, quorum=4)
    assert carrier.asked == [("site-1",)]
    assert sum(isinstance(answer, Failure) for answer in answers.values()) == 4


def test_everybody_is_asked_without_a_quorum_or_while_the_superlink_is_silent() -> None:
    engine, carrier = engine_with([dict.fromkeys(KEYS, "offline")])
    ask(engine, quorum=None)
    engine._nodes = dict
    ask(engine, quorum=4)
    assert carrier.asked == [tuple(KEYS), tuple(KEYS)]
