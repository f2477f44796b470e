"""The newest value: made once for all who ask, by its key alone, and never a failure."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from phoenix_secure.federation.secagg.newest import Newest


def test_threads_that_ask_for_one_key_get_one_value() -> None:
    newest: Newest[int, object] = Newest()
    made, start = [], threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        start.wait(30)
        return newest.get(1, make)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert all(each is made[0] for each in found)


def test_another_key_is_another_value_and_an_older_one_is_made_again() -> None:
    newest: Newest[int, str] = Newest()
    calls: list[int] = []
    for key in (1, 2, 2, 1):
        assert newest.get(key, lambda key=key: calls.append(key) or str(key)) == str(key)
    assert calls == [1, 2, 1]


def test_a_failure_is_raised_to_whoever_asks_and_changes_nothing() -> None:
    newest: Newest[int, str] = Newest()
    assert newest.get(1, lambda: "one") == "one"

    def fail() -> str:
        raise ValueError("no honest sum")

    for _ in range(2):
        with pytest.raises(ValueError, match="no honest sum"):
            newest.get(2, fail)
    assert newest.get(1, fail) == "one"
