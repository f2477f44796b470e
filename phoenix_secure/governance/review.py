"""Review of one proposal by the data's owner: what would run, its protection, the objections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.governance.code_digest import installed_code
from phoenix_secure.governance.proposal import Proposal
from phoenix_secure.governance.submission import Submission
from phoenix_secure.governance.syftbox import Job
from protocol import Roster

__all__ = ["Review", "make_review"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """The content of one job, read in one go.

    submission    digest of everything in the job; None where it cannot even be read
    proposal      None where it is not a proposal of the roster's server to this site
    sheet         its plan, as every owner reads it; None where there is no proposal
    objections    reasons against approving it; empty where there are none
    """

    job: Job
    status: str
    submission: str | None
    proposal: Proposal | None
    sheet: PlanSheet | None
    objections: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """The review in plain values, for the owner."""
        facts: dict[str, Any] = {
            "proposal": self.job.name,
            "from": self.job.ref.ds_email,
            "status_in_pysyft": self.status,
            "objections": list(self.objections),
            "reviewed_sha256": self.submission,
        }
        if self.proposal is None or self.sheet is None:
            return facts
        return facts | {
            "purpose": self.proposal.purpose,
            "release": self.proposal.release,
            "code_sha256": self.proposal.code,
            **self.sheet.facts(),
            "objections": list(self.objections),
        }


def make_review(
    job: Job,
    *,
    status: str,
    submission: Submission | None,
    fault: str | None,
    site: str,
    roster: Roster,
    policy: SitePolicy,
) -> Review:
    """Review ``submission`` of ``job``; ``fault`` says why there is none."""
    if submission is None:
        return Review(
            job=job,
            status=status,
            submission=None,
            proposal=None,
            sheet=None,
            objections=(fault or "the job cannot be read",),
        )
    try:
        proposal = Proposal.read(submission.code, site=site, roster=roster)
        sheet = PlanSheet.of(proposal.plan, policy=policy)
        objections = _objections(proposal, sheet, policy)
    except ConfigError as error:
        proposal, sheet, objections = None, None, (str(error),)
    return Review(
        job=job,
        status=status,
        submission=submission.digest,
        proposal=proposal,
        sheet=sheet,
        objections=objections,
    )


def _objections(proposal: Proposal, sheet: PlanSheet, policy: SitePolicy) -> tuple[str, ...]:
    found = []
    if proposal.code != installed_code():
        found.append(
            f"code: proposed for {proposal.code[:16]}, installed is {installed_code()[:16]}: "
            "install the same version, or have it proposed again"
        )
    found += sheet.objections
    against = policy.release_objection(proposal.release)
    return (*found, *(() if against is None else (f"policy: {against}",)))
