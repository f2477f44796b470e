"""Who may see the owner's page: one link, used once, and the session that it opens.

::

    http://127.0.0.1:PORT/open/LINK    a form; sent, it spends LINK and opens the session
    http://127.0.0.1:PORT/at/PLACE/    the page, to the browser that holds the session's cookie

The link may stay in a browser's history and on a terminal: once used it opens nothing. Cookies are
sent to every port of a host, also to a neighbour's program on another one, so that the cookie is
bound to PLACE, a path that only this browser knows. Opening a link changes nothing: what looks
ahead at links (previews, prefetching) does not spend it.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phoenix_secure.governance.owner_page.messages import PageRequest

__all__ = ["COOKIE", "Access", "Refusal", "refusal_of"]

COOKIE = "phoenix-owner"
_SESSION_S = 8 * 3600.0
_TOKEN_BYTES = 32
_PLACE_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A status, and a sentence that says what to do and nothing about the site."""

    status: int
    why: str


def refusal_of(request: PageRequest, *, authority: str) -> Refusal | None:
    """The objection to a request by where it comes from; None where there is none.

    authority   host and port of the link, as the address line of the browser has them

    Another name for this machine's address (DNS rebinding) is not ours. Pages of other origins get
    no reply and send no form; one on another port counts as "same-site" to browsers, and is
    another origin all the same. Programs that are no browser send no Sec-Fetch-Site; a form needs
    the right Origin from everybody.
    """
    if request.headers.get("host") != authority:
        return Refusal(status=421, why="open the link exactly as `site ui` printed it")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return Refusal(
            status=403, why="another page led here: copy the link into the browser's address line"
        )
    if request.method == "POST" and request.headers.get("origin") != f"http://{authority}":
        return Refusal(status=403, why="this form was not sent from the owner's page")
    return None


@dataclass(slots=True)
class Access:
    """The link and its session; ``clock`` gives seconds.

    place   path of the page, known to whoever opened the link
    form    goes with each form of the page; it belongs to the session and ends with it
    """

    clock: Callable[[], float] = time.monotonic
    place: str = field(default_factory=lambda: secrets.token_urlsafe(_PLACE_BYTES), repr=False)
    form: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)
    link: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)
    is_spent: bool = False
    _cookie: str | None = field(default=None, repr=False)
    _ends: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self, link: str) -> str | None:
        """Spend the link: the cookie of the one session; None where it is wrong or was used."""
        with self._lock:
            if not _same(link, self.link) or self.is_spent:
                return None
            self.is_spent = True
            self._ends = self.clock() + _SESSION_S
            self._cookie = secrets.token_urlsafe(_TOKEN_BYTES)
            return self._cookie

    def was_used(self, link: str) -> bool:
        """Whether it is the right link, which opened the session before."""
        return self.is_spent and _same(link, self.link)

    def knows(self, request: PageRequest, *, place: str) -> bool:
        """Whether the browser that opened the session asks for ``place``, and it goes on."""
        cookie = self._cookie
        if cookie is None or self.clock() >= self._ends or not _same(place, self.place):
            return False
        return any(_same(each, cookie) for each in request.cookies(COOKIE))

    def signed(self, form: dict[str, str]) -> bool:
        """Whether a form is one of the session's own pages."""
        return _same(form.get("form", ""), self.form)

    def close(self) -> None:
        """End the session, for good: another one needs another start."""
        self._cookie = None


def _same(one: str, other: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(one.encode(), other.encode())
