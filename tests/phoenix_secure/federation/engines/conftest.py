"""Three federations of three scripted sites, one behind each engine, with the same controls."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import scripted_sites

SITES = ("site-01", "site-02", "site-03")
SESSION = "plan-of-this-test"
MAX_REPLY_BYTES = 1 << 20


class InProcessHarness:
    """Sites are threads; a killed one hangs."""

    patience_s = 0.6

    def __init__(self) -> None:
        from phoenix_secure.federation.engines.client_app import site_app
        from phoenix_secure.federation.engines.grid import GridEngine
        from phoenix_secure.federation.engines.in_process import InProcessGrid

        self.scripts = {site: scripted_sites.ScriptedSite() for site in SITES}
        app = site_app(lambda request: self.scripts[request.site](request))
        # Threads to spare, because a site that hangs keeps one.
        self.grid = InProcessGrid(app, sites=SITES, num_workers=9)
        self.engine = GridEngine(
            self.grid,
            nodes={site: node for node, site in enumerate(SITES, start=2)},
            session=SESSION,
            max_reply_bytes=MAX_REPLY_BYTES,
        )

    def kill(self, site: str) -> None:
        self.scripts[site].up.clear()

    def restart(self, site: str) -> None:
        self.scripts[site].up.set()

    def meddle(self) -> None:
        """From now on the transport delivers everything twice and in reverse order."""
        pull = self.grid.pull_messages

        def twice(message_ids):
            found = list(pull(message_ids))
            return [*reversed(found), *found]

        self.grid.pull_messages = twice

    def close(self) -> None:
        for script in self.scripts.values():
            script.up.set()
        self.engine.close()


class FolderHarness:
    """Sites are threads that watch a folder; a killed one has left its loop."""

    patience_s = 0.6

    def __init__(self, root: Path) -> None:
        from phoenix_secure.federation.engines.folder import FolderEngine

        self.root = root
        self.engine = FolderEngine(
            root, sites=SITES, session=SESSION, poll_s=0.01, max_reply_bytes=MAX_REPLY_BYTES
        )
        self.stops: dict[str, threading.Event] = {}
        self.threads: dict[str, threading.Thread] = {}
        self._meddler: threading.Thread | None = None
        self._meddle = threading.Event()
        for site in SITES:
            self.restart(site)

    def kill(self, site: str) -> None:
        self.stops[site].set()
        self.threads[site].join(20)

    def restart(self, site: str) -> None:
        from phoenix_secure.federation.engines.folder_site import serve_folder

        self.stops[site] = threading.Event()
        self.threads[site] = threading.Thread(
            target=serve_folder,
            args=(self.root,),
            kwargs={
                "site": site,
                "handle": scripted_sites.carry_out,
                "stop": self.stops[site],
                "poll_s": 0.01,
            },
        )
        self.threads[site].start()

    def meddle(self) -> None:
        """From now on a sync job brings each answer back after it was removed."""
        self._meddle.set()
        self._meddler = threading.Thread(target=self._bring_back)
        self._meddler.start()

    def _bring_back(self) -> None:
        seen: dict[Path, Path] = {}
        while self._meddle.is_set():
            for path in self.root.glob("*/replies/*.msg"):
                if path not in seen:
                    copy = path.with_suffix(".copy")
                    try:
                        shutil.copyfile(path, copy)
                    except FileNotFoundError:
                        continue
                    seen[path] = copy
            for path, copy in seen.items():
                if not path.exists():
                    # In one step, as a sync job does: the engine may remove it at any moment.
                    staged = copy.with_suffix(".again")
                    shutil.copyfile(copy, staged)
                    staged.replace(path)

    def close(self) -> None:
        self._meddle.clear()
        if self._meddler is not None:
            self._meddler.join(20)
        for site in SITES:
            self.kill(site)
        self.engine.close()


def _flower(folder: Path, sites: tuple[str, ...]):
    # Not above: the other engines' tests need no Flower.
    from flower_harness import FlowerHarness

    return FlowerHarness(folder, sites=sites, session=SESSION, max_reply_bytes=MAX_REPLY_BYTES)


def _harness(kind: str, folder: Path):
    match kind:
        case "in-process":
            return InProcessHarness()
        case "folder":
            return FolderHarness(folder)
        case _:
            return _flower(folder, SITES)


@pytest.fixture
def order():
    """Makes the body of a request that tells a scripted site what to do."""
    return scripted_sites.order


@pytest.fixture(
    scope="module",
    params=["in-process", "folder", pytest.param("flower", marks=pytest.mark.slow)],
)
def federation(request, tmp_path_factory) -> Iterator:
    harness = _harness(request.param, tmp_path_factory.mktemp("federation"))
    try:
        yield harness
    finally:
        harness.close()


@pytest.fixture
def one_flower_site(tmp_path) -> Iterator:
    """The smallest real network: SuperLink, one SuperNode, one worker."""
    harness = _flower(tmp_path, SITES[:1])
    try:
        yield harness
    finally:
        harness.close()
