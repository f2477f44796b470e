"""One link, one session: spent once, bound to a path, ended by the clock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from phoenix_secure.governance.owner_page.access import COOKIE, Access, refusal_of
from phoenix_secure.governance.owner_page.messages import PageRequest

AUTHORITY = "127.0.0.1:8000"


def request(*, method: str = "GET", **headers: str) -> PageRequest:
    found = {"host": AUTHORITY} | {name.replace("_", "-"): text for name, text in headers.items()}
    return PageRequest(method=method, target="/", headers=found)


def with_cookie(*values: str) -> PageRequest:
    return request(cookie="; ".join(f"{COOKIE}={value}" for value in values))


def test_link_opens_once_and_a_wrong_one_never() -> None:
    access = Access()
    assert access.open("x" * 43) is None
    assert not access.is_spent
    cookie = access.open(access.link)
    assert cookie is not None
    assert access.knows(with_cookie(cookie), place=access.place)
    assert access.open(access.link) is None


def test_of_many_who_open_at_once_one_gets_in() -> None:
    access, barrier = Access(), threading.Barrier(8)

    def attempt(_: int) -> str | None:
        barrier.wait()
        return access.open(access.link)

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(attempt, range(8)))
    assert sum(each is not None for each in got) == 1


def test_session_needs_cookie_and_place_and_ends_after_eight_hours() -> None:
    now = [0.0]
    access = Access(clock=lambda: now[0])
    cookie = access.open(access.link) or ""
    assert access.knows(with_cookie("of-a-neighbour", cookie), place=access.place)
    assert not access.knows(with_cookie("of-a-neighbour"), place=access.place)
    assert not access.knows(request(), place=access.place)
    assert not access.knows(with_cookie(cookie), place="A" * 22)
    now[0] = 8 * 3600 - 1
    assert access.knows(with_cookie(cookie), place=access.place)
    now[0] = 8 * 3600
    assert not access.knows(with_cookie(cookie), place=access.place)


def test_closed_session_is_closed_for_good() -> None:
    access = Access()
    cookie = access.open(access.link) or ""
    access.close()
    assert not access.knows(with_cookie(cookie), place=access.place)
    assert access.open(access.link) is None


def test_no_secret_is_in_what_python_prints() -> None:
    access = Access()
    cookie = access.open(access.link) or ""
    for secret in (access.link, access.place, access.form, cookie):
        assert secret not in repr(access)
    assert cookie not in repr(PageRequest(method="POST", target="/", headers={}, body=b"x"))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"host": "evil.example:8000"}),  # DNS rebinding
        (421, {"host": "localhost:8000"}),
        (421, {"host": "127.0.0.1"}),
        (421, {"host": "127.0.0.1:8000, 127.0.0.1:8000"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (403, {"sec_fetch_site": "same-site"}),  # another port of this host
        (403, {"sec_fetch_site": "none, cross-site"}),
        (403, {"method": "POST"}),
        (403, {"method": "POST", "origin": "null"}),
        (403, {"method": "POST", "origin": "https://127.0.0.1:8000"}),
        (403, {"method": "POST", "origin": "http://127.0.0.1:8001"}),
        (403, {"method": "POST", "origin": f"http://{AUTHORITY}", "sec_fetch_site": "same-site"}),
        (None, {}),
        (None, {"sec_fetch_site": "none"}),
        (None, {"method": "POST", "origin": f"http://{AUTHORITY}"}),
    ],
)
def test_requests_are_judged_by_where_they_come_from(
    status: int | None, headers: dict[str, str]
) -> None:
    refusal = refusal_of(request(**headers), authority=AUTHORITY)
    assert (refusal.status if refusal else None) == status
