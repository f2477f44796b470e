"""Somebody else looks at the owner's page, or gets the owner's browser to do something there.

The attacker is another user of the machine, a web page that the owner has open, or the server,
whose plans and requests are shown on it. The page is real, on a socket.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from ceremony import files_of
from chromium import Chromium
from owned_site import FORM, OwnedSite, fetch, served
from phoenix_secure.governance.owner_page.listener import Limits
from phoenix_secure.governance.owner_page.page import OwnerPage

QUICK = Limits(request_s=0.6, linger_s=0.1, max_connections=8)


class Owner:
    """The owner's open page: what the browser knows of it, and what it would send along."""

    def __init__(self, site: OwnedSite, page: OwnerPage, authority: str) -> None:
        self.site, self.page, self.authority = site, page, authority
        self.link = page.link.rpartition("/")[2]
        self.home = ""
        self.cookie = ""

    def open(self, **headers: str) -> HTTPResponse:
        sent = {"origin": f"http://{self.authority}", "content_type": FORM} | headers
        reply = fetch(self.authority, "/session", body=f"link={self.link}", **sent)
        if reply.status == 303:
            self.home = reply.headers["location"]
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def form(self) -> str:
        html = fetch(self.authority, self.home, cookie=self.cookie).read().decode()
        found = re.search(r'name="form" value="([^"]+)"', html)
        assert found is not None
        return found.group(1)

    def leave(self, form: str, **headers: str) -> HTTPResponse:
        sent = {"origin": f"http://{self.authority}", "content_type": FORM, "cookie": self.cookie}
        return fetch(self.authority, f"{self.home}leave", body=f"form={form}", **sent | headers)

    def is_open(self) -> bool:
        return fetch(self.authority, self.home, cookie=self.cookie).status == 200


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    site = OwnedSite(tmp_path / "trial")
    site.offer()
    with served(site, limits=QUICK) as (page, authority):
        yield Owner(site, page, authority)


def refused(reply: HTTPResponse, status: int = 403) -> None:
    """Refused, in words that say nothing about the site."""
    said = reply.read().decode()
    assert reply.status == status
    assert "site-01" not in said
    assert "trial" not in said


def test_owner_gets_in_reads_and_leaves(owner: Owner) -> None:
    """So that the refusals below are of the attack."""
    assert owner.open().status == 303
    assert owner.is_open()
    assert owner.leave(owner.form()).status == 200
    assert not owner.is_open()


def test_without_token_there_is_nothing(owner: Owner) -> None:
    for target in ("/", "/at/", f"/at/{'A' * 22}/", "/session", "/log", "/plan/" + "0" * 64):
        refused(fetch(owner.authority, target))
    owner.open()
    refused(fetch(owner.authority, owner.home))
    refused(fetch(owner.authority, owner.home, cookie="phoenix-owner="))
    refused(fetch(owner.authority, owner.home, cookie="phoenix-owner=" + "A" * 43))


def test_guessed_link_opens_nothing_and_spends_nothing(owner: Owner) -> None:
    true, owner.link = owner.link, "A" * 43
    refused(owner.open())
    owner.link = ""
    refused(owner.open())
    owner.link = true
    assert owner.open().status == 303


def test_link_from_the_history_opens_nothing_and_the_owner_hears_of_it(owner: Owner) -> None:
    owner.open()
    before = owner.cookie
    refused(owner.open())
    assert owner.cookie == before
    assert any("second time" in line for line in owner.site.said)


def test_looking_ahead_at_the_link_does_not_spend_it(owner: Owner) -> None:
    for _ in range(3):
        assert fetch(owner.authority, f"/open/{owner.link}").status == 200
    assert owner.open().status == 303


def test_cookie_without_the_path_is_not_enough(owner: Owner) -> None:
    """A program on another port of this host gets cookies of Path=/: this one has another path."""
    reply = owner.open()
    assert f"Path={owner.home.rstrip('/')};" in reply.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(reply.headers["set-cookie"].split("; "))
    refused(fetch(owner.authority, f"/at/{'A' * 22}/", cookie=owner.cookie))


@pytest.mark.parametrize("port", ["", ":1"])
@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1.evil.example", "[::1]"])
def test_rebound_name_reaches_nothing(owner: Owner, host: str, port: str) -> None:
    owner.open()
    right = owner.authority.rpartition(":")[2]
    named = host + (port or f":{right}")
    refused(fetch(owner.authority, owner.home, cookie=owner.cookie, host=named), 421)


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
def test_page_of_another_origin_reads_nothing(owner: Owner, where: str) -> None:
    """same-site: a page on another port of 127.0.0.1, to which browsers send strict cookies."""
    owner.open()
    reply = fetch(owner.authority, owner.home, cookie=owner.cookie, sec_fetch_site=where)
    assert "access-control-allow-origin" not in reply.headers
    refused(reply)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", ""])
def test_form_of_another_origin_is_refused_even_with_the_right_fields(
    owner: Owner, origin: str
) -> None:
    refused(owner.open(origin=origin))
    assert owner.open().status == 303
    refused(owner.leave(owner.form(), origin=origin))
    assert owner.is_open()


def test_forged_form_is_refused_from_the_right_origin_too(owner: Owner) -> None:
    owner.open()
    true = owner.form()
    for forged in ("", "A" * 43, true[:-1], f"{true}&form={true}"):
        refused(owner.leave(forged))
    refused(owner.leave(true, content_type="text/plain"))
    assert owner.is_open()


@pytest.mark.parametrize(
    "path",
    [
        "../site.yaml",
        "..%2fsite.yaml",
        "%2e%2e/identity.key",
        "plan/../../../../etc/passwd",
        "plan/..%2F..%2Fidentity.key",
        "plan/%00",
        "log?before=-1",
        "log?before=1&x=/etc/passwd",
        "style.css/../../identity.key",
    ],
)
def test_no_path_leads_to_a_file(owner: Owner, path: str) -> None:
    owner.open()
    reply = fetch(owner.authority, owner.home + path, cookie=owner.cookie)
    assert reply.status in (403, 404)
    assert b"root:" not in reply.read()


def test_whoever_has_the_session_approves_and_rejects_nothing(owner: Owner) -> None:
    """The page alone: every path with every form of it, and the folder is as it was."""
    owner.open()
    [plan] = [path.stem for path in owner.site.place.plans.glob("*.json")]
    form, before = owner.form(), files_of(owner.site.place.path)
    sent = {
        "origin": f"http://{owner.authority}",
        "content_type": FORM,
        "cookie": owner.cookie,
    }
    for path in ("", f"plan/{plan}", "approve", f"approve/{plan}", "reject", "log", "checks"):
        for body in (f"form={form}", f"form={form}&plan={plan}&key=approver.key&yes=1"):
            refused(fetch(owner.authority, owner.home + path, body=body, **sent))
    assert files_of(owner.site.place.path) == before


def test_oversized_and_slow_requests_keep_nobody_out(owner: Owner) -> None:
    """A neighbour holds every place, and drips; the owner waits for none of it."""
    host, _, port = owner.authority.rpartition(":")
    with contextlib.ExitStack() as stack:
        for number in range(QUICK.max_connections):
            slow = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            slow.sendall(b"POST /session HTTP/1.1\r\n" if number % 2 else b"")
        started = time.monotonic()
        assert owner.open().status == 303
        assert time.monotonic() - started < QUICK.request_s
    large = fetch(
        owner.authority,
        "/session",
        body="link=" + "A" * 5000,
        origin=f"http://{owner.authority}",
        content_type=FORM,
    )
    refused(large, 413)


def test_slow_client_is_dropped_after_one_time_for_the_whole_request(owner: Owner) -> None:
    host, _, port = owner.authority.rpartition(":")
    started = time.monotonic()
    slow = socket.create_connection((host, int(port)), timeout=30)
    with slow, contextlib.suppress(OSError):
        while time.monotonic() - started < 20:
            slow.sendall(b"a")
            time.sleep(0.05)
    assert time.monotonic() - started < 10


def test_text_of_the_server_starts_nothing_on_the_page(owner: Owner) -> None:
    owner.open()
    said = "</bdi></td><script>alert(1)</script>\u202e<form action=//evil.example>"
    owner.site.place.audit().record("refused", plan=said[:64], stage=said, why=said)
    for below in ("", "log", "live"):
        html = fetch(owner.authority, owner.home + below, cookie=owner.cookie).read().decode()
        assert "<script" not in html
        assert "<form action=//" not in html
        assert "\u202e" not in html


@pytest.mark.long
@pytest.mark.browser
def test_browser_on_a_page_of_another_port_gets_nothing(
    tmp_path: Path, browser_program: str
) -> None:
    """The owner's own browser, with the session open, is led to an attacker on the same host."""
    site, other = OwnedSite(tmp_path / "trial"), OwnedSite(tmp_path / "evil")
    plan = site.offer()
    with (
        served(site) as (page, _),
        served(other) as (evil, evil_authority),
        Chromium(browser_program, tmp_path / "profile") as browser,
    ):
        browser.visit(page.link)
        browser.click("button")
        home = browser.evaluate("location.href")
        browser.visit(f"http://{evil_authority}/")
        read = f"fetch('{home}', {{credentials: 'include'}}).then(r => r.text()).catch(String)"
        # Its own policy would stop it; an attacker's page has none.
        browser.call("Page.setBypassCSP", enabled=True)
        browser.visit(f"http://{evil_authority}/")
        assert "TypeError" in browser.evaluate(read)
        assert "phoenix-owner" not in browser.evaluate("document.cookie")
        send = (
            "const f = document.createElement('form'); f.method = 'post';"
            f"f.action = '{home}leave'; document.body.append(f); f.submit()"
        )
        seen = browser.loads
        browser.evaluate(send)
        browser.wait_loaded(seen)
        assert "Another page led here" in browser.text
        browser.visit(f"{home}plan/{plan.hash}")
        assert plan.hash[:16] in browser.text  # the session goes on
        assert evil.link not in browser.text
