"""The gate before a site's images: every request passes these checks, in this order, or leaves.

1. the session names a plan that the owner of the images approved, and still does, over a roster
   that is in force or may be followed by the one in force (``run.roster_rule``);
2. the bundle that came along is the one in that plan (none of it is ever run);
3. the plan meets the minimums of the site's own policy;
4. a request that comes again gets the answer it got before, and nothing is computed twice;
5. only then the handler sees it.

Before all of this stands the stage in which the server passes rosters on: they prove themselves by
the signature of the federation's owner, and a site that is not in the newest one has to hear so.

Everything is recorded in the site's audit log before an answer leaves; the server hears a code.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phoenix_secure.errors import ConfigError, PhoenixError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.request import SiteRequest
from phoenix_secure.federation.round.stages import PLAN_STAGE, ROSTER_STAGE
from phoenix_secure.federation.run.plan import MAX_PLAN_BYTES, Plan, plan_hash
from phoenix_secure.federation.run.roster_rule import roster_objection
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.files import write_bytes
from protocol import RosterChain

__all__ = ["Gate"]

READY = b"ready"
# Plans that nobody approved are kept for the owner to read; a server cannot fill the disk.
_MAX_PLANS = 64
_log = logging.getLogger(__name__)

Handler = Callable[[str, bytes], bytes]


class Gate:
    """Answers requests of one site; see the module for the order of checks.

    plans          folder of the plans that were offered, each in a file named by its hash
    rosters        reads the rosters that this site holds: they may change while it runs
    install        makes the handler of an approved plan: loads images, builds the trainer
    take_rosters   keeps rosters that go on from those held; ConfigError for all others
    kept           facts for the audit log on what the site keeps (``kept_files``)
    """

    def __init__(
        self,
        site: str,
        *,
        plans: Path,
        rosters: Callable[[], RosterChain],
        approver: Approver,
        policy: SitePolicy,
        audit: AuditLog,
        install: Callable[[Plan], Handler],
        take_rosters: Callable[[bytes], object],
        kept: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._site = site
        self._plans = plans
        self._rosters = rosters
        self._approver = approver
        self._policy = policy
        self._audit = audit
        self._install = install
        self._take_rosters = take_rosters
        self._kept = kept
        self._installed: tuple[str, Handler] | None = None
        self._answers: dict[str, tuple[bytes, bytes]] = {}  # stage -> request digest, reply
        self._lock = threading.Lock()

    def __call__(self, request: SiteRequest) -> bytes:
        """Answer ``request``.

        Raises:     SiteFailure with the code that the server may see.
        """
        digest = hashlib.sha256(request.body).digest()
        facts = {
            "plan": request.session[:64],
            "stage": request.stage[:64],
            "request": digest.hex(),
            "bytes_in": len(request.body),
        }
        with self._lock:
            try:
                reply, how = self._answer(request, digest)
            except _Refusal as refusal:
                self._audit.record("refused", **facts, why=str(refusal))
                raise SiteFailure(FailureCode.REFUSED) from None
            except SiteFailure as failure:
                event = "refused" if failure.code.is_refusal else "failed"
                why = {"why": failure.why} if failure.why else {}
                self._audit.record(event, **facts, code=failure.code.value, **why, **self._kept())
                raise
            except Exception as error:
                # Only the kind: a message could hold a path or a value.
                kind = type(error).__name__
                self._audit.record("failed", **facts, code="error", kind=kind, **self._kept())
                raise
            sent = hashlib.sha256(reply).hexdigest()
            self._audit.record(how, **facts, reply=sent, bytes_out=len(reply), **self._kept())
            return reply

    def _answer(self, request: SiteRequest, digest: bytes) -> tuple[bytes, str]:
        if request.site != self._site:
            raise _Refusal("the request is for another site")
        if request.stage == ROSTER_STAGE:
            try:
                self._take_rosters(request.body)
            except ConfigError as error:
                raise _Refusal(str(error)) from None
            return b"", "answered"
        if request.stage == PLAN_STAGE:
            self._keep_plan(request)
        plan = self._approved_plan(request.session)
        if request.bundle_hash is not None and request.bundle_hash != plan.bundle_hash:
            raise _Refusal(f"the bundle {request.bundle_hash[:16]} is not the one in the plan")
        objection = self._policy.objection(plan)
        if objection is not None:
            raise _Refusal(f"policy: {objection}")
        handler = self._handler(request.session, plan)
        if request.stage == PLAN_STAGE:
            return READY, "ready"
        known = self._answers.get(request.stage)
        if known is not None and known[0] == digest:
            return known[1], "answered again"
        reply = handler(request.stage, request.body)
        self._answers[request.stage] = digest, reply
        return reply, "answered"

    def _keep_plan(self, request: SiteRequest) -> None:
        """Write an offered plan down, so that its owner can read and approve it."""
        if len(request.body) > MAX_PLAN_BYTES or plan_hash(request.body) != request.session:
            raise _Refusal("the session is not the hash of the offered plan")
        try:
            Plan.from_bytes(request.body)
        except ConfigError as error:
            raise _Refusal(f"the offered plan is malformed: {error}") from None
        path = self._plans / f"{request.session}.json"
        if path.exists():
            return
        if len(list(self._plans.glob("*.json"))) >= _MAX_PLANS:
            raise _Refusal("too many plans are waiting: delete some from the folder plans")
        write_bytes(path, request.body)

    def _approved_plan(self, session: str) -> Plan:
        """The plan named ``session``, as it lies on this site's disk."""
        if len(session) != 64 or not set(session) <= set("0123456789abcdef"):
            raise _Refusal("the request names no plan")
        decision = self._approver.decide(session)
        if not decision.approved:
            raise _Refusal(decision.why)
        try:
            content = (self._plans / f"{session}.json").read_bytes()
            if plan_hash(content) != session:
                raise _Refusal("the stored plan was changed")
            plan = Plan.from_bytes(content)
        except (OSError, ConfigError):
            raise _Refusal("the plan was not offered to this site") from None
        objection = roster_objection(plan, self._rosters(), site=self._site)
        if objection is not None:
            raise _Refusal(objection)
        return plan

    def _handler(self, session: str, plan: Plan) -> Handler:
        """The handler of ``plan``; one plan at a time is in memory."""
        if self._installed is None or self._installed[0] != session:
            self._installed = None
            self._answers = {}
            try:
                self._installed = session, self._install(plan)
            except PhoenixError as error:
                # For the owner's eyes: it may name paths. The server hears only a code.
                _log.error("plan %s cannot run here: %s", session[:16], error)
                raise
        return self._installed[1]


class _Refusal(Exception):  # noqa: N818
    """Why a request was refused; stays in the audit log."""
