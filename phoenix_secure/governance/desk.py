"""The owner's desk at one site: review, approve, reject; every decision goes into the audit log."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.governance.approver import SyftApprovals
from phoenix_secure.governance.code_digest import installed_code
from phoenix_secure.governance.consent import BadConsent, Consent, consent_file, in_days
from phoenix_secure.governance.review import Review, make_review
from phoenix_secure.governance.syftbox import Job, OwnerBox, default_address
from protocol import SERVER, Identity

__all__ = ["ReviewDesk"]


class ReviewDesk:
    """Proposals to the site in ``place``.

    Raises:     ConfigError for a site whose site.yaml does not say ``approver: syft``, or whose
                SyftBox, roster or keys are missing.
    """

    def __init__(self, place: SiteFolder) -> None:
        self._place = place
        self._settings = settings = place.settings()
        if settings.approver != "syft" or settings.syft is None:
            raise ConfigError(
                f"{place.settings_file} says approver: {settings.approver}; proposals through "
                "PySyft need approver: syft"
            )
        self._roster = place.roster()
        name = settings.federation
        self.owner = settings.syft.owner or default_address(settings.site, federation=name)
        self.coordinator = settings.syft.coordinator or default_address(SERVER, federation=name)
        self.root = Path(settings.syft.folder)
        self.box = OwnerBox(self.root, owner=self.owner, coordinator=self.coordinator)
        place.make_folders()

    def approver(self) -> SyftApprovals:
        """The approver that the site's gate asks."""
        return SyftApprovals(
            self._place.approvals,
            site=self._settings.site,
            federation=self._settings.federation,
            owner_key=self._place.owner_key,
            box=self.box,
            policy=self._settings.policy,
            record=self._place.audit().record,
        )

    def budget(self) -> SiteBudget:
        """The site's privacy budget: the part that approved proposals reserve, and the rest."""
        return SiteBudget(self._place, policy=self._settings.policy, approver=self.approver())

    def reviews(self) -> list[Review]:
        """Every proposal, as it lies there now."""
        return [self._review(job) for job in self.box.jobs()]

    def find(self, beginning: str) -> Review:
        """The one proposal whose name or plan hash begins so.

        Raises:     ConfigError when there is none or more than one.
        """
        reviews = self.reviews()
        exact = [review for review in reviews if review.job.name == beginning]
        matching = exact or [
            review
            for review in reviews
            if beginning
            and (
                review.job.name.startswith(beginning)
                or (review.proposal is not None and review.proposal.plan.hash.startswith(beginning))
            )
        ]
        if len(matching) != 1:
            raise ConfigError(
                f"{len(matching)} of {len(reviews)} proposals begin with {beginning!r}: "
                "see `phoenix-secure site review`"
            )
        return matching[0]

    def find_plan(self, digits: str) -> Review:
        """The one proposal of a plan whose hash begins so: to be signed, so that no name counts.

        Raises:     ConfigError when there is none or more than one.
        """
        reviews = self.reviews()
        matching = [
            review
            for review in reviews
            if review.proposal is not None and review.proposal.plan.hash.startswith(digits)
        ]
        if len(matching) != 1:
            raise ConfigError(
                f"{len(matching)} of {len(reviews)} proposals are of a plan that begins with "
                f"{digits!r}: see `phoenix-secure site review`"
            )
        return matching[0]

    def keep(self, review: Review) -> None:
        """Write down that the owner was shown ``review``: only this can be approved."""
        shown = {
            "proposal": review.job.name,
            "reviewed_sha256": review.submission,
            "installed_code": installed_code(),
            "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        write_bytes(self._shown(review.job), (json.dumps(shown, indent=2) + "\n").encode())

    def require_approvable(self, review: Review) -> None:
        """Refuse what ``approve`` would, before the owner is asked.

        Raises:     as ``approve``.
        """
        if review.proposal is None or review.objections or review.submission is None:
            raise ConfigError(
                f"{review.job.name} cannot be approved: {'; '.join(review.objections)}"
            )
        if self._shown_digest(review.job) != (review.submission, installed_code()):
            raise ConfigError(
                f"{review.job.name} is not what was reviewed last: run "
                f"`phoenix-secure site review FOLDER {review.job.name}` and read it"
            )
        if review.status not in ("received", "pending", "done"):
            raise ConfigError(
                f"PySyft's record of {review.job.name} says {review.status}: ask for a new "
                "proposal, under another name"
            )
        self.budget().require_fit(review.proposal.plan)

    def approve(self, review: Review, *, owner: Identity, days: int) -> Path:
        """Sign a consent to what was reviewed, and return its file.

        Guarantee:  recorded in the audit log before it takes effect.
        Raises:     ConfigError for a proposal that was not reviewed, that changed since, that
                    the policy refuses, or that was rejected; BudgetExhausted for one that does
                    not fit the site's privacy budget.
        """
        self.require_approvable(review)
        if review.proposal is None or review.submission is None:
            raise ValueError("expected a review that can be approved")
        plan = review.proposal.plan
        signed, expires = in_days(days)
        consent = Consent(
            site=self._settings.site,
            federation=self._settings.federation,
            plan=plan.hash,
            submission=review.submission,
            code=installed_code(),
            release=review.proposal.release,
            coordinator=self.coordinator,
            job=review.job.name,
            signed=signed,
            expires=expires,
        )
        content = consent.sign(owner)
        Consent.open(content, owner_key=self._place.owner_key)
        self._place.audit().record(
            "approved",
            plan=consent.plan,
            proposal=consent.job,
            reviewed=consent.submission,
            code=consent.code,
            release=consent.release,
            expires=consent.expires,
        )
        # The budget counts approved plans on the disk; the server offers this one later.
        write_bytes(self._place.plans / f"{plan.hash}.json", plan.to_bytes())
        path = consent_file(self._place.approvals, consent.plan)
        write_bytes(path, content)
        self.box.accept(review.job, consent=content, digest=review.submission)
        return path

    def reject(self, review: Review, *, reason: str) -> None:
        """Refuse a proposal, or withdraw the consent to one; it holds from the next request on.

        ``reason`` is kept here and told to the coordinator through PySyft.
        """
        if not reason.isprintable() or not 0 < len(reason) <= 500:
            raise ConfigError("the reason must be one line of 1 to 500 characters")
        self._place.audit().record(
            "rejected",
            proposal=review.job.name,
            plan=None if review.proposal is None else review.proposal.plan.hash,
            why=reason,
        )
        with storage_errors(self._place.approvals):
            for path in self._place.approvals.glob("*.consent.json"):
                if _job_of(path, owner_key=self._place.owner_key) == review.job.name:
                    path.unlink()
            self._shown(review.job).unlink(missing_ok=True)
        self.box.reject(review.job, reason=reason)

    def _review(self, job: Job) -> Review:
        submission, fault = None, None
        try:
            submission = self.box.submission(job)
        except ConfigError as error:
            fault = str(error)
        return make_review(
            job,
            status=self.box.status(job),
            submission=submission,
            fault=fault,
            site=self._settings.site,
            roster=self._roster,
            policy=self._settings.policy,
        )

    def _shown(self, job: Job) -> Path:
        return self._place.reviews / f"{job.name}.json"

    def _shown_digest(self, job: Job) -> tuple[str, str] | None:
        try:
            shown = json.loads(self._shown(job).read_bytes())
            return shown["reviewed_sha256"], shown["installed_code"]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _job_of(path: Path, *, owner_key: bytes) -> str | None:
    try:
        return Consent.open(path.read_bytes(), owner_key=owner_key).job
    except BadConsent:
        return None
