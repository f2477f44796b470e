"""Every engine keeps the same promises: each case runs in-process, over folders and over Flower."""

from __future__ import annotations

import time

import pytest

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply

SITES = ("site-01", "site-02", "site-03")
AWAY = {FailureCode.NO_REPLY, FailureCode.UNREACHABLE}


def echoes(federation, order, stage: str, *, say: str = "", sites=SITES):
    body = order("echo", say=say)
    return federation.engine.exchange(stage, dict.fromkeys(sites, body), deadline_s=60)


def expected(stage: str, *, say: str = "", sites=SITES) -> dict[str, Reply]:
    return {site: Reply(body=f"{site}/plan-of-this-test/{stage}/{say}".encode()) for site in sites}


def test_each_site_answers_its_own_stage_of_the_session(federation, order) -> None:
    assert federation.engine.sites == SITES
    assert echoes(federation, order, "first", say="a") == expected("first", say="a")
    assert echoes(federation, order, "second") == expected("second")


def test_codes_leave_a_site_and_nothing_else_does(federation, order) -> None:
    answers = federation.engine.exchange(
        "train",
        {"site-01": order("refuse"), "site-02": order("raise"), "site-03": order("echo")},
        deadline_s=60,
    )
    assert answers["site-01"] == Failure(code=FailureCode.REFUSED)
    assert answers["site-02"] == Failure(code=FailureCode.ERROR)
    assert isinstance(answers["site-03"], Reply)
    assert "patient" not in repr(answers)


def test_oversized_answers_are_malformed(federation, order) -> None:
    answers = federation.engine.exchange(
        "train",
        {"site-01": order("grow", size=(1 << 20) + 1), "site-02": order("grow", size=1 << 20)},
        deadline_s=60,
    )
    assert answers["site-01"] == Failure(code=FailureCode.MALFORMED)
    assert answers["site-02"] == Reply(body=bytes(1 << 20))


def test_stage_that_states_a_limit_is_held_to_it(federation, order) -> None:
    answers = federation.engine.exchange(
        "announce",
        {"site-01": order("grow", size=201), "site-02": order("grow", size=200)},
        deadline_s=60,
        max_reply_bytes=200,
    )
    assert answers["site-01"] == Failure(code=FailureCode.MALFORMED)
    assert answers["site-02"] == Reply(body=bytes(200))
    # The next stage has a limit of its own, here a larger one than the engine's.
    answers = federation.engine.exchange(
        "mask",
        {"site-01": order("grow", size=3 << 20)},
        deadline_s=60,
        max_reply_bytes=3 << 20,
    )
    assert answers["site-01"] == Reply(body=bytes(3 << 20))


def test_strangers_are_unreachable(federation, order) -> None:
    answers = federation.engine.exchange(
        "train",
        {"site-01": order("echo"), "site-99": order("echo")},
        deadline_s=60,
    )
    assert answers["site-99"] == Failure(code=FailureCode.UNREACHABLE)
    assert isinstance(answers["site-01"], Reply)


def test_answers_in_any_order_reach_the_right_site(federation, order) -> None:
    requests = {
        site: order("sleep", seconds=0.2) if site == "site-01" else order("echo", say=site)
        for site in SITES
    }
    answers = federation.engine.exchange("mix", requests, deadline_s=60)
    assert list(answers) == list(SITES)
    assert answers["site-01"] == Reply(body=b"late")
    assert answers["site-03"] == expected("mix", say="site-03")["site-03"]


@pytest.mark.long
def test_late_answers_are_lost_and_never_taken_for_a_later_stage(federation, order) -> None:
    slow = federation.patience_s * 1.5
    requests = {site: order("echo") for site in SITES} | {"site-02": order("sleep", seconds=slow)}
    first = federation.engine.exchange("one", requests, deadline_s=federation.patience_s)
    assert first["site-02"] == Failure(code=FailureCode.NO_REPLY)
    assert isinstance(first["site-01"], Reply)
    assert echoes(federation, order, "two") == expected("two")


@pytest.mark.long
def test_stage_closes_after_quorum_and_grace(federation, order) -> None:
    slow = federation.patience_s * 3
    requests = {site: order("echo") for site in SITES} | {"site-03": order("sleep", seconds=slow)}
    started = time.monotonic()
    answers = federation.engine.exchange("vote", requests, deadline_s=60, quorum=2, grace_s=0.1)
    assert time.monotonic() - started < slow
    assert answers["site-03"] == Failure(code=FailureCode.NO_REPLY)
    assert isinstance(answers["site-01"], Reply)
    assert isinstance(answers["site-02"], Reply)
    # The busy site finishes the old request first and is then back.
    assert echoes(federation, order, "next") == expected("next")


def test_each_answer_is_handed_over_as_it_comes_and_not_kept(federation, order) -> None:
    seen: list[tuple[str, bytes]] = []

    def take(site: str, reply: Reply) -> Failure | None:
        seen.append((site, reply.body))
        return Failure(code=FailureCode.MALFORMED) if site == "site-02" else None

    requests = {site: order("echo") for site in SITES}
    requests["site-01"] = order("sleep", seconds=federation.patience_s / 2)
    requests["site-03"] = order("refuse")
    answers = federation.engine.exchange("take", requests, deadline_s=60, on_reply=take)
    assert seen == [
        ("site-02", expected("take")["site-02"].body),
        ("site-01", b"late"),
    ]
    assert answers == {
        "site-01": Reply(body=b""),
        "site-02": Failure(code=FailureCode.MALFORMED),
        "site-03": Failure(code=FailureCode.REFUSED),
    }


def test_answers_that_prove_unusable_do_not_count_towards_the_quorum(federation, order) -> None:
    requests = {site: order("echo") for site in SITES}
    requests["site-03"] = order("sleep", seconds=federation.patience_s / 2)

    def spoilt(site: str, reply: Reply) -> Failure | None:
        return Failure(code=FailureCode.MALFORMED) if site == "site-01" else None

    # With site-01's answer counted, the stage would close before site-03 has answered.
    answers = federation.engine.exchange(
        "spoilt", requests, deadline_s=60, quorum=2, grace_s=0, on_reply=spoilt
    )
    assert answers["site-03"] == Reply(body=b"")


def test_what_the_taker_raises_ends_the_exchange_and_the_next_one_works(federation, order) -> None:
    def fail(site: str, reply: Reply) -> Failure | None:
        raise MemoryError

    with pytest.raises(MemoryError):
        federation.engine.exchange(
            "one", {site: order("echo") for site in SITES}, deadline_s=60, on_reply=fail
        )
    assert echoes(federation, order, "two") == expected("two")


@pytest.mark.long
@pytest.mark.parametrize("site", SITES)
def test_killed_site_is_missed_alone_and_is_back_after_a_restart(federation, order, site) -> None:
    assert echoes(federation, order, "before") == expected("before")
    federation.kill(site)
    try:
        for stage in ("killed-before", "still-away"):
            answers = federation.engine.exchange(
                stage, dict.fromkeys(SITES, order("echo")), deadline_s=federation.patience_s
            )
            lost = answers.pop(site)
            assert isinstance(lost, Failure)
            assert lost.code in AWAY
            assert answers == expected(stage, sites=tuple(answers))
    finally:
        federation.restart(site)
    # A request that waits while the site comes back may be reported as lost: never for long.
    end = time.monotonic() + 90
    while (answers := echoes(federation, order, "after")) != expected("after"):
        assert answers[site] != Failure(code=FailureCode.ERROR)
        assert time.monotonic() < end


def test_deliveries_twice_and_in_reverse_change_nothing(federation, order) -> None:
    federation.meddle()
    for number in range(3):
        say = str(number)
        assert echoes(federation, order, "again", say=say) == expected("again", say=say)
