"""Five sites behind a folder: four answer, and the first does to its own folder what it likes."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from phoenix_secure.federation.engines.exchange import Failure, Reply
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.engines.folder_site import serve_folder

__all__ = ["HONEST", "HOSTILE", "NAMES", "SECRET", "HostileFolder", "answers_of", "seen_in"]

NAMES = tuple(f"site-{number}" for number in range(1, 6))
HOSTILE, *HONEST = NAMES
SECRET = b"what only the server may read"
_DEADLINE_S = 20.0


def answers_of(site: str) -> Reply:
    """What an honest site answers."""
    return Reply(body=b"answer of " + site.encode())


class HostileFolder:
    """The engine below ``root``, and the four honest sites in threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = self.new_engine()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._serve, args=(site,)) for site in HONEST]
        for thread in self._threads:
            thread.start()

    @property
    def requests(self) -> Path:
        return self.root / HOSTILE / "requests"

    @property
    def replies(self) -> Path:
        return self.root / HOSTILE / "replies"

    def new_engine(self) -> FolderEngine:
        """As a server that is started again makes it."""
        return FolderEngine(self.root, sites=NAMES, session="s", poll_s=0.01)

    def exchange(self, *, deadline_s: float = 0.3) -> Reply | Failure:
        """One stage: what came of the hostile site; the honest ones must have answered.

        The stage closes ``deadline_s`` after those.
        """
        found = self.engine.exchange(
            "x",
            dict.fromkeys(NAMES, SECRET),
            deadline_s=_DEADLINE_S,
            quorum=len(HONEST),
            grace_s=deadline_s,
        )
        assert {site: found[site] for site in HONEST} == {s: answers_of(s) for s in HONEST}
        return found[HOSTILE]

    @contextlib.contextmanager
    def meddling(self, act: Callable[[str], object]) -> Iterator[None]:
        """The hostile site does ``act`` with the name of the first request that it sees."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                with contextlib.suppress(FileNotFoundError):
                    for path in self.requests.glob("*.msg"):
                        act(path.name)
                        return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def replace(self, path: Path, make: Callable[[Path], object]) -> None:
        """Put something else where the folder ``path`` was."""
        shutil.rmtree(path)
        make(path)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.engine.close()

    def _serve(self, site: str) -> None:
        serve_folder(
            self.root,
            site=site,
            handle=lambda request: answers_of(request.site).body,
            stop=self._stop,
            poll_s=0.01,
        )


def seen_in(folder: Path, *, while_running: Callable[[], object]) -> set[str]:
    """Names that appeared in ``folder`` meanwhile."""
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(path.name for path in folder.iterdir())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    while_running()
    done.set()
    thread.join()
    return seen
