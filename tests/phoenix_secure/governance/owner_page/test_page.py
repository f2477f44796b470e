"""What the owner reads, and what nobody finds there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chromium import Chromium
from command_line import phoenix
from owned_site import OwnedSite, Visitor, served
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.governance.owner_page.page import OwnerPage
from phoenix_secure.privacy.ledger import PrivacyLedger, Release


@pytest.fixture
def site(tmp_path: Path) -> OwnedSite:
    return OwnedSite(tmp_path / "trial of a clinic")


@pytest.fixture
def visitor(site: OwnedSite) -> Visitor:
    visitor = Visitor(site.page())
    visitor.open()
    return visitor


def elements(html: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)
            found.extend(f"@{name}" for name, _ in attrs)

    Parser().feed(html)
    return found


def pages(site: OwnedSite, visitor: Visitor) -> Iterator[tuple[str, str]]:
    plans = [f"plan/{path.stem}" for path in site.place.plans.glob("*.json")]
    for below in ("", "live", "log", "log?before=1", "audits", "checks", *plans):
        yield below, visitor.text(below)


def test_overview_says_what_waits_and_why(site: OwnedSite, visitor: Visitor) -> None:
    plan, long = site.offer(), site.offer("federation.rounds=2000")
    text = visitor.text()
    assert "1 plan<" in text
    for each in (plan, long):
        assert f'href="{visitor.home}plan/{each.hash}"' in text
    assert "policy: federation.rounds is above 1000" in text
    assert "NONE: the model may remember single images" in text


def test_plan_shows_the_sheet_and_commands_that_can_be_typed(
    site: OwnedSite, visitor: Visitor
) -> None:
    plan = site.offer()
    text = visitor.text(f"plan/{plan.hash}")
    assert "honest sites behind every sum, at least" in text
    approve, reject = map(shlex.split, re.findall(r"<pre>(.*?)</pre>", text.replace("&#39;", "'")))
    key = site.place.approver_key
    done = phoenix(*[key if word == "APPROVER.KEY" else word for word in approve[1:]], typed="y\n")
    assert done.code == 0, done.err
    assert "meets the policy, and approved by the owner" in visitor.text(f"plan/{plan.hash}")
    done = phoenix(*["no vote" if word == "WHY" else word for word in reject[1:]])
    assert done.code == 0, done.err
    assert not list(site.place.approvals.iterdir())
    assert "by you: no vote" in visitor.text()


def test_site_that_released_nothing_says_so(site: OwnedSite, visitor: Visitor) -> None:
    assert "Nothing was released under differential privacy" in visitor.text()


@pytest.mark.long
def test_spent_and_left_are_those_of_the_command(site: OwnedSite, visitor: Visitor) -> None:
    site.policy(max_epsilon=4.0, max_total_epsilon=7.0)
    plan = site.offer("privacy.unit=record", "privacy.epsilon=3", "privacy.sampling_rate=0.1")
    private = plan_privacy(plan.config, terms=None)
    assert private is not None
    release = Release(id="1", plan="0" * 64, round_number=1, data="da7a" * 16, event=private.event)
    site.place.audit().record("started")
    ledger = PrivacyLedger.open(site.place.privacy_ledger)
    ledger.charge(release, max_releases=1, total=None)
    done = phoenix("site", "budget", site.place.path, "--format", "json")
    [row] = json.loads(done.out)
    html = visitor.text()
    assert f'data-of="Spent">{row["spent"]:.4g}<' in html
    assert f"<strong>{row['left']:.4g}</strong> of 7" in html
    added = re.search(r'data-of="This plan">([0-9.]+)<', visitor.text(f"plan/{plan.hash}"))
    assert added is not None
    assert 2.8 < float(added.group(1)) <= 3


def test_no_page_holds_a_script_a_style_or_anything_from_elsewhere(
    site: OwnedSite, visitor: Visitor
) -> None:
    site.offer()
    site.place.audit().record("started")
    for below, html in pages(site, visitor):
        found = set(elements(html))
        assert not found & {"script", "iframe", "object", "img", "style", "@style"}, below
        assert not [name for name in found if name.startswith("@on")], below
        assert not re.search(r"(?:https?:)?//", html.replace("<!doctype html>", "")), below


def test_no_secret_of_the_site_is_on_any_page(site: OwnedSite, visitor: Visitor) -> None:
    site.offer()
    keys = [*site.place.secrets, site.place.approver_key]
    for below, html in pages(site, visitor):
        for path in keys:
            secret = path.read_bytes()
            lines = [secret.hex(), *secret.decode("latin-1").splitlines()[1:-1]]
            assert not any(line in html for line in lines if len(line) > 20), (below, path.name)


def test_hostile_text_is_shown_and_does_nothing(site: OwnedSite, visitor: Visitor) -> None:
    said = "<script>alert(1)</script> \u202egnp.exe\u202c \x1b[31m é {{ 7 * 7 }}"
    audit = site.place.audit()
    audit.record("refused", plan=said[:64], stage=said, code='"><b>', why=said)
    for below in ("", "live", "log"):
        html = visitor.text(below)
        assert "script" not in elements(html)
        assert "&lt;script&gt;" in html
        assert not set(html) & {"\u202e", "\u202c", "\x1b"}
        assert "{{ 7 * 7 }}" in html
        assert "<bdi>" in html


def test_log_is_read_in_pages(site: OwnedSite, visitor: Visitor) -> None:
    audit = site.place.audit()
    for number in range(205):
        audit.record("noted", why=f"line-{number}-")
    newest = visitor.text("log")
    assert "line-204-" in newest
    assert "line-4-" not in newest
    older = re.search(r"log\?before=(\d+)", newest)
    assert older is not None
    oldest = visitor.text(older.group(0))
    assert [f"line-{n}-" in oldest for n in (0, 4, 5)] == [True, True, False]


def test_changed_log_stops_the_page_and_says_where(site: OwnedSite, visitor: Visitor) -> None:
    audit = site.place.audit()
    for event in ("started", "refused", "stopped"):
        audit.record(event)
    path = site.place.audit_file
    path.write_text(path.read_text().replace("started", "stopped", 1))
    assert "was changed at line 2" in visitor.text(status=500)


def test_unknown_plan_is_named_as_such(visitor: Visitor) -> None:
    assert "no plan of that hash" in visitor.text(f"plan/{'f' * 64}", status=404)


def test_terminal_hears_of_the_link_and_never_sees_the_cookie(site: OwnedSite) -> None:
    page = site.page()
    visitor = Visitor(page)
    visitor.open()
    visitor.ask("/session", body=f"link={page.link.rpartition('/')[2]}")
    assert ["used" in line or "second time" in line for line in site.said] == [True, True]
    secrets = (visitor.cookie.partition("=")[2], page.link.rpartition("/")[2])
    assert not any(secret in line for line in site.said for secret in secrets)


def test_leaving_ends_the_session(site: OwnedSite, visitor: Visitor) -> None:
    form = re.search(r'name="form" value="([^"]+)"', visitor.text())
    assert form is not None
    assert visitor.ask(f"{visitor.home}leave", body=f"form={form.group(1)}").status == 200
    assert visitor.ask(visitor.home).status == 403


def test_command_refuses_what_is_no_loopback_before_it_listens(site: OwnedSite) -> None:
    done = phoenix("site", "ui", site.place.path, "--address", "192.0.2.1")
    assert done.code == 2
    assert "127.0.0.1 or ::1 only" in done.err


@pytest.mark.long
@pytest.mark.browser
def test_page_in_a_browser_without_scripts(
    site: OwnedSite, tmp_path: Path, browser_program: str
) -> None:
    plan = site.offer()
    site.place.audit().record("started", site="site-01")
    with served(site) as (page, authority), Chromium(browser_program, tmp_path / "p") as browser:
        browser.without_scripts()
        browser.visit(page.link)
        browser.click("button")
        assert "Waiting for you\n1 plan" in browser.text.replace(
            "WAITING FOR YOU", "Waiting for you"
        )
        assert browser.evaluate("document.cookie") == ""  # HttpOnly
        home = browser.evaluate("location.href")
        sheet = f"plan/{plan.hash}"
        for width, dark, shown in (
            (390, False, ("", "live", "log", "audits", "checks", sheet)),
            (1000, False, ("", sheet)),
            (390, True, ("",)),
        ):
            browser.screen(width=width, dark=dark)
            for below in shown:
                browser.visit(home + below)
                wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wider <= 0, (below, width)
                ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
                assert ground == ("rgb(22, 22, 22)" if dark else "rgb(255, 255, 255)")
        assert browser.console == []
        assert {each for each in browser.requests if not _own(each, page, authority)} == set()
        browser.visit(f"http://{authority}/")
        assert "Open the link" in browser.text


def _own(address: str, page: OwnerPage, authority: str) -> bool:
    return address.startswith((f"http://{authority}/", "data:,")) or address == page.link
