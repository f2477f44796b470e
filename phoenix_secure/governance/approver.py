"""The gate's approver where PySyft carries the proposals: asked again for every request."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.site.approval import Decision
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.governance.code_digest import installed_code
from phoenix_secure.governance.consent import BadConsent, Consent, consent_file
from phoenix_secure.governance.syftbox import OwnerBox

__all__ = ["SyftApprovals"]


class SyftApprovals:
    """Approves a plan while all of this holds, and denies it otherwise:

    1. the owner's key signed a consent to this plan at this site, and it has not expired;
    2. PySyft's record of the job says done, by the owner (unsigned: it can deny, never approve);
    3. the job in the inbox is, byte for byte, the one that was reviewed;
    4. the installed code is the one that was installed at the review;
    5. the policy still allows the release.

    The consent's first denial as expired is recorded as an event of its own.
    """

    def __init__(
        self,
        approvals: Path,
        *,
        site: str,
        federation: str,
        owner_key: bytes,
        box: OwnerBox,
        policy: SitePolicy,
        record: Callable[..., None],
    ) -> None:
        self._approvals = approvals
        self._site = site
        self._federation = federation
        self._owner_key = owner_key
        self._box = box
        self._policy = policy
        self._record = record
        # Now, when this process has just imported it: an update on the disk does not change it.
        self._code = installed_code()
        self._expired: set[str] = set()

    def decide(self, plan: str) -> Decision:
        """The decision over the plan with this hash."""
        try:
            why = self._objection(plan)
        except (BadConsent, ConfigError) as objection:
            why = str(objection)
        if why is not None:
            return Decision(approved=False, why=why)
        return Decision(approved=True, why="approved by the owner")

    def _objection(self, plan: str) -> str | None:
        try:
            content = consent_file(self._approvals, plan).read_bytes()
        except OSError:
            return "no approval"
        consent = Consent.open(content, owner_key=self._owner_key)
        if (consent.plan, consent.site, consent.federation) != (plan, self._site, self._federation):
            return "the approval is for another plan or site"
        if consent.expires <= dt.datetime.now(dt.UTC).timestamp():
            self._note_expiry(consent)
            return "the approval has expired"
        if consent.coordinator != self._box.coordinator:
            return "the approval is for a proposal of somebody else"
        job = self._box.job(consent.job)
        if job is None:
            return "the proposal was taken back"
        status = self._box.status(job)
        if status != "done":
            return f"PySyft's record of the proposal says {status}"
        if self._box.submission(job).digest != consent.submission:
            return "the proposal was changed after it was approved"
        if consent.code != self._code:
            return "the installed code is not the one that was approved: review it again"
        objection = self._policy.release_objection(consent.release)
        return None if objection is None else f"policy: {objection}"

    def _note_expiry(self, consent: Consent) -> None:
        if consent.plan not in self._expired:
            self._record("approval expired", plan=consent.plan, expired=consent.expires)
            self._expired.add(consent.plan)
