"""A site with offered plans, and whoever looks at its owner's page: in-process or over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.governance.owner_page.listener import Limits, listen, serving
from phoenix_secure.governance.owner_page.messages import PageReply, PageRequest
from phoenix_secure.governance.owner_page.page import OwnerPage

SETTINGS = ("data.name=digits", "data.image_size=8", "data.channels=1", "partition.num_sites=5")
AUTHORITY = "127.0.0.1:8000"
FORM = "application/x-www-form-urlencoded"


class OwnedSite:
    """The site site-01 of a federation of five below ``root``."""

    def __init__(self, root: Path) -> None:
        initialise(root, Deployment(federation="trial", sites=tuple(numbered_sites(5))))
        self.place = SiteFolder(root / "sites" / "site-01")
        self.place.make_folders()
        self._roster = ServerFolder(root / "server").roster()
        self.said: list[str] = []

    def offer(self, *settings: str) -> Plan:
        """A plan, as the server offers it."""
        config = load_config(None, [*SETTINGS, *settings])
        plan = Plan.make(config, roster=self._roster, bundle_hash="0" * 64)
        (self.place.plans / f"{plan.hash}.json").write_bytes(plan.to_bytes())
        return plan

    def policy(self, **rules: object) -> None:
        path = self.place.settings_file
        settings = yaml.safe_load(path.read_text())
        settings["policy"] |= rules
        path.write_text(yaml.safe_dump(settings))

    def page(self, authority: str = AUTHORITY) -> OwnerPage:
        return OwnerPage(self.place, authority=authority, say=self.said.append)


class Visitor:
    """The browser that opens the link of ``page``; ``home`` and ``cookie`` are what it got."""

    def __init__(self, page: OwnerPage) -> None:
        self.page = page
        self.home = self.cookie = ""

    def ask(self, target: str, *, body: str | None = None, **headers: str) -> PageReply:
        """A request as the browser would send it, but for ``headers``."""
        found = {"host": AUTHORITY, "sec-fetch-site": "same-origin", "cookie": self.cookie}
        if body is not None:
            found |= {"origin": f"http://{AUTHORITY}", "content-type": FORM}
        found |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.page.answer(
            PageRequest(
                method="GET" if body is None else "POST",
                target=target,
                headers=found,
                body=(body or "").encode(),
            )
        )

    def open(self) -> PageReply:
        reply = self.ask("/session", body=f"link={self.page.link.rpartition('/')[2]}")
        self.home = reply.headers["location"]
        self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def text(self, below: str = "", *, status: int = 200) -> str:
        """The HTML of a page below ``home``."""
        reply = self.ask(self.home + below)
        assert reply.status == status, reply.body.decode()
        return reply.body.decode()


@contextlib.contextmanager
def served(site: OwnedSite, *, limits: Limits | None = None) -> Iterator[tuple[OwnerPage, str]]:
    """The page on a real socket: the page, and its host and port."""
    where, authority = listen("127.0.0.1", 0)
    page, ready, stop = site.page(authority), threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(where, page.answer, limits=limits):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield page, authority
    finally:
        stop.set()
        thread.join(60)


def fetch(
    authority: str, target: str, *, body: str | None = None, **headers: str
) -> http.client.HTTPResponse:
    """A request over the network by a program that is no browser."""
    connection = http.client.HTTPConnection(authority, timeout=30)
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", target, body=body, headers=found)
    return connection.getresponse()
