"""The owner's page: from a request to a reply. It reads a site's folder and writes nothing.

::

    GET  /open/LINK              a form that spends the link          (no session needed)
    POST /session                opens the session                    (no session needed)
    GET  /style.css              the same for everybody               (no session needed)
    GET  /at/PLACE/              plans, budget, round, log
    GET  /at/PLACE/plan/HASH     one plan, and the commands that approve or reject it
    GET  /at/PLACE/live          the round; loads itself again
    GET  /at/PLACE/log           the audit log, in pages
    GET  /at/PLACE/audits        what the site's own attacks on finished models found
    GET  /at/PLACE/checks        what the site finds about its own files
    POST /at/PLACE/leave         ends the session

There is no request that approves. The approval key stays out of browsers and of programs that
listen on a port: the page spells out a command, which shows the plan once more and signs what it
showed. Whoever takes the page over can lie on it, and approve nothing.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.deployment.fingerprints import Fingerprint
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.plan_sheet import one_line
from phoenix_secure.governance.owner_page.access import COOKIE, Access, Refusal, refusal_of
from phoenix_secure.governance.owner_page.messages import PageReply, PageRequest
from phoenix_secure.governance.owner_page.own_audits import own_audits
from phoenix_secure.governance.owner_page.site_state import PlanStanding, SiteState, Standing
from phoenix_secure.printed_text import without_controls

__all__ = ["OwnerPage"]

_PACKAGE = "phoenix_secure.governance.owner_page"
_LOG_LINES = 200
_LINK = re.compile(r"/open/([A-Za-z0-9_-]{43})")
_INSIDE = re.compile(
    r"/at/([A-Za-z0-9_-]{22})/(|live|audits|checks|leave|log(?:\?before=\d{1,9})?|plan/\S+)"
)
_PLAN = re.compile(r"plan/([0-9a-f]{64})")


class OwnerPage:
    """The page of the site in ``place``.

    authority   host and port at which it is served
    say         told what the owner should see on the terminal; never the link
    """

    def __init__(
        self,
        place: SiteFolder,
        *,
        authority: str,
        say: Callable[[str], object],
        access: Access | None = None,
    ) -> None:
        self._place = place
        self._authority = authority
        self._say = say
        self._access = access or Access()
        self._lock = threading.Lock()

    @property
    def link(self) -> str:
        """What opens the page, once. For the terminal alone."""
        return f"http://{self._authority}/open/{self._access.link}"

    def answer(self, request: PageRequest) -> PageReply:
        """The reply to ``request``; may be called by several threads."""
        refusal = refusal_of(request, authority=self._authority)
        if refusal is not None:
            return _refused(refusal)
        if request.method not in ("GET", "POST"):
            return PageReply(status=405, headers={"allow": "GET, POST"})
        is_post = request.method == "POST"
        if request.target == "/style.css" and not is_post:
            return PageReply(body=_style(), content_type="text/css; charset=utf-8")
        if request.target == "/session" and is_post:
            return self._open(request)
        link = _LINK.fullmatch(request.target)
        if link is not None and not is_post:
            # Whether it is the right one is said to whoever sends the form.
            return _page("open.html.j2", link=link.group(1))
        inside = _INSIDE.fullmatch(request.target)
        if inside is None or not self._access.knows(request, place=inside.group(1)):
            return _refused(_CLOSED)
        if is_post:
            return self._leave(request) if inside.group(2) == "leave" else _refused(_NO_FORM)
        try:
            with self._lock:  # accounting takes seconds: strangers do not wait for it
                return self._view(inside.group(2))
        except PhoenixError as error:
            return self._show("error.html.j2", status=500, said=str(error))

    def _open(self, request: PageRequest) -> PageReply:
        link = request.form().get("link", "")
        was_used = self._access.was_used(link)
        cookie = self._access.open(link)
        if cookie is None:
            if was_used:
                self._say(
                    "the link was tried a second time: if that was not you, press Ctrl-C, since "
                    "somebody else has read it"
                )
            return _refused(_CLOSED)
        self._say("the link was used: if that was not you, press Ctrl-C at once")
        return PageReply(
            status=303,
            headers={
                "location": f"/at/{self._access.place}/",
                "set-cookie": f"{COOKIE}={cookie}; Path=/at/{self._access.place}; HttpOnly; "
                "SameSite=Strict",
            },
        )

    def _leave(self, request: PageRequest) -> PageReply:
        if not self._access.signed(request.form()):
            return _refused(_NO_FORM)
        self._access.close()
        self._say("the page was closed: press Ctrl-C, and start it again for another link")
        return _page("closed.html.j2", why="You have left the page. `site ui` prints another link")

    def _view(self, what: str) -> PageReply:
        if what == "leave":
            return _refused(_CLOSED)
        state = SiteState(self._place)
        if what == "":
            plans = state.plans()
            return self._show(
                "overview.html.j2",
                state=state,
                plans=plans,
                num_waiting=sum(each.standing is Standing.WAITS for each in plans),
                budget=state.budget.rows(),
                live=state.live(most=1),
                checks=state.checks(),
                lines=state.lines[: -8 - 1 : -1],
                words=Fingerprint(state.rosters.current.hash).words,
            )
        if what == "live":
            return self._show("live.html.j2", state=state, live=state.live())
        if what == "audits":
            audits = own_audits(self._place.path)
            return self._show("audits.html.j2", state=state, audits=audits)
        if what == "checks":
            words = Fingerprint(state.rosters.current.hash).words
            return self._show("checks.html.j2", state=state, checks=state.checks(), words=words)
        if what.startswith("log"):
            return self._log(state, before=int(what.partition("=")[2] or len(state.lines)))
        named = _PLAN.fullmatch(what)
        found = [
            each for each in state.plans() if named is not None and each.name == named.group(1)
        ]
        if len(found) != 1 or found[0].plan is None:
            return self._show("error.html.j2", status=404, said="no plan of that hash is here")
        return self._plan(state, found[0], found[0].plan)

    def _plan(self, state: SiteState, each: PlanStanding, plan: Plan) -> PageReply:
        return self._show(
            "plan.html.j2",
            state=state,
            each=each,
            budget=state.budget.rows(plan),
            similar=[one.warning for one in state.budget.similar(plan)],
            commands=_Commands.of(state, each),
        )

    def _log(self, state: SiteState, *, before: int) -> PageReply:
        first = max(0, min(before, len(state.lines)) - _LOG_LINES)
        lines = state.lines[first : first + _LOG_LINES][: before - first]
        return self._show("log.html.j2", state=state, lines=lines[::-1], first=first)

    def _show(self, template: str, *, status: int = 200, **values: Any) -> PageReply:
        inside = {"home": f"/at/{self._access.place}/", "form": self._access.form}
        return _page(template, status=status, **inside, **values)


_CLOSED = Refusal(
    status=403,
    why="open the link that `site ui` printed; it works once, and in one browser",
)
_NO_FORM = Refusal(
    status=403, why="this form is none of the page's own: go back, and load it again"
)


def _refused(refusal: Refusal) -> PageReply:
    return _page("closed.html.j2", status=refusal.status, why=refusal.why)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Commands:
    """What to type for each decision; where the key is, the owner says."""

    review: str | None
    approve: str
    reject: str

    @classmethod
    def of(cls, state: SiteState, each: PlanStanding) -> _Commands:
        def command(name: str, *more: str) -> str:
            folder = str(state.place.path.resolve())
            return shlex.join(["phoenix-secure", "site", name, folder, each.name, *more])

        return cls(
            review=command("review") if state.uses_pysyft else None,
            approve=command("approve", "--key", "APPROVER.KEY"),
            reject=command("reject", "--reason", "WHY"),
        )


def _page(template: str, *, status: int = 200, **values: Any) -> PageReply:
    text = _environment().get_template(template).render(**values)
    return PageReply(status=status, body=without_controls(text).encode())


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined
    )
    # What others wrote is shown in ASCII: nothing in it hides another or turns the line round.
    environment.filters["line"] = one_line
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=True)
    environment.filters["time"] = lambda text: str(text)[:19].replace("T", " ") + " UTC"
    environment.filters["epsilon"] = lambda value: f"{value:.4g}"
    environment.globals["standings"] = Standing
    return environment


@functools.cache
def _style() -> bytes:
    return files(_PACKAGE).joinpath("templates/page.css").read_bytes()
