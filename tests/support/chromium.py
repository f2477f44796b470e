"""A headless Chromium that tests drive by the DevTools protocol, over a pipe: no port, no package.

Protocol: https://chromedevtools.github.io/devtools-protocol/; with ``--remote-debugging-pipe`` the
browser reads JSON from descriptor 3 and writes to descriptor 4, each message ended by a NUL.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PATIENCE_S = 60.0
# Gives the two pipes the numbers that the browser expects, and becomes the browser.
_WIRE = """\
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The program of a Chromium; None where there is none."""
    named = os.environ.get("PHOENIX_SECURE_BROWSER")
    names = (named,) if named else ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Chromium:
    """One browser with one tab.

    requests   every address that pages asked for
    loads      pages that were loaded so far
    console    what the browser complained about: refusals by a page's own policy among them
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.requests: list[str] = []
        self.console: list[str] = []
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        command = [
            program,
            "--headless=new",
            "--no-sandbox",  # containers have no user namespaces; the pages are our own
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        ends = (str(to_browser), str(from_browser))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WIRE, *ends, *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._numbers = itertools.count(1)
        self.loads = 0
        [target] = [
            each
            for each in self._call("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        ]
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One call of the protocol, to the tab."""
        return self._call(method, self._session, **arguments)

    def visit(self, address: str) -> None:
        """Load ``address`` and wait until it is there."""
        seen = self.loads
        self.call("Page.navigate", url=address)
        self.wait_loaded(seen)

    def click(self, selector: str) -> None:
        """Click on what ``selector`` finds, and wait for the page that follows."""
        seen = self.loads
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        self.wait_loaded(seen)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.evaluate("document.body.innerText"))

    def without_scripts(self) -> None:
        """Switch JavaScript off for pages from now on."""
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def screen(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window in CSS pixels, and light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> Path:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def wait_loaded(self, seen: int) -> None:
        """Wait for one load more than ``seen``."""
        end = time.monotonic() + _PATIENCE_S
        while self.loads <= seen:
            self._follow(self._next(end))

    def _call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _PATIENCE_S
        while True:
            found = self._next(end)
            if found.get("id") == number:
                if "error" in found:
                    raise AssertionError(f"{method}: {found['error']}")
                return dict(found["result"])
            self._follow(found)

    def _follow(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Page.loadEventFired":
                self.loads += 1
            case "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            case "Log.entryAdded":
                self.console.append(event["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.console.append(str(event["params"]["exceptionDetails"]))

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser said nothing")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise ConnectionError("the browser ended")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))
