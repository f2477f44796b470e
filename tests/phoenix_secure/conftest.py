"""What the application's tests share: one CPU thread for torch, and a browser for its pages.

One thread: two test processes share two cores, and sums repeat bit for bit.
"""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PageVisit:
    """What happened when a page was opened.

    console      messages of the page: errors, and what its own policy refused
    requests     addresses that it asked for, itself excepted
    screenshot   PNG file
    """

    console: list[str]
    requests: list[str]
    screenshot: Path


@pytest.fixture
def open_page(tmp_path: Path, browser_program: str) -> Callable[..., PageVisit]:
    """Open an HTML file in headless Chromium: ``open_page(path, width=1000, height=2000)``."""
    browser = browser_program

    def visit(page: Path, *, width: int = 1000, height: int = 2000) -> PageVisit:
        shot, log = tmp_path / f"{page.stem}.png", tmp_path / "network.json"
        options = [
            "--headless=new",
            "--no-sandbox",  # containers have no user namespaces; the page is our own
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--log-level=0",
            f"--log-net-log={log}",
            f"--window-size={width},{height}",
            f"--screenshot={shot}",
        ]
        done = subprocess.run(
            [browser, *options, page.resolve().as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        console = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
        return PageVisit(console=console, requests=_requests(log), screenshot=shot)

    return visit


def _requests(log: Path) -> list[str]:
    """Requests that belong to a page of a file; the browser's own errands have another key."""
    found = set()
    for event in json.loads(log.read_text(encoding="utf-8"))["events"]:
        params = event.get("params", {})
        if "file://" in str(params.get("network_isolation_key")) and "url" in params:
            found.add(params["url"])
    return sorted(found)
