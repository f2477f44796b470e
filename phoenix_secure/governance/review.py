"""Review of one proposal by the data's owner: what would run, its protection, the objections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
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
    objections    reasons against approving it; empty where there are none
    """

    job: Job
    status: str
    submission: str | None
    proposal: Proposal | None
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
        if self.proposal is None:
            return facts
        plan, config = self.proposal.plan, self.proposal.plan.config
        secure = config.secure_aggregation
        return facts | {
            "plan": plan.hash,
            "purpose": self.proposal.purpose,
            "release": self.proposal.release,
            "differential_privacy": privacy_in_words(config),
            "secure_aggregation": (
                f"on; up to {secure.collusion:.0%} of the sites may work with the server"
                if secure.mode == "on"
                else "OFF: the server sees this site's own update"
            ),
            "sites": config.partition.num_sites,
            "rounds": config.federation.rounds,
            "images": f"{config.data.image_size} pixels, {config.data.channels} channels",
            "bundle_sha256": plan.bundle_hash,
            "code_sha256": self.proposal.code,
            "settings_changed": changed_settings(config),
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
            objections=(fault or "the job cannot be read",),
        )
    try:
        proposal = Proposal.read(submission.code, site=site, roster=roster)
        objections = _objections(proposal, policy)
    except ConfigError as error:
        proposal, objections = None, (str(error),)
    return Review(
        job=job,
        status=status,
        submission=submission.digest,
        proposal=proposal,
        objections=objections,
    )


def _objections(proposal: Proposal, policy: SitePolicy) -> tuple[str, ...]:
    found = []
    if proposal.code != installed_code():
        found.append(
            f"code: proposed for {proposal.code[:16]}, installed is {installed_code()[:16]}: "
            "install the same version, or have it proposed again"
        )
    for against in (
        policy.objection(proposal.plan),
        policy.model_objection(proposal.plan.config),
        policy.release_objection(proposal.release),
    ):
        if against is not None:
            found.append(f"policy: {against}")
    return tuple(found)


def privacy_in_words(config: RunConfig) -> str:
    """The differential privacy that the plan states, with its unit beside it."""
    privacy = config.privacy
    if privacy.unit == "none":
        return "NONE: the model may remember single images"
    unit = {"record": "one image of one site", "site": "all images of one site"}[privacy.unit]
    amount = (
        f"noise multiplier {privacy.noise_multiplier:g}, epsilon not stated"
        if privacy.epsilon is None
        else f"epsilon {privacy.epsilon:g}"
    )
    words = f"{amount}, delta {privacy.delta:g}; unit {privacy.unit}: {unit}"
    if privacy.trust == "sum":
        words += (
            "; NOISE OF ALL SITES TOGETHER: it holds while at most "
            f"{config.secure_aggregation.collusion:.0%} of them work with the server"
        )
    if privacy.noise_source != "secure":
        words += "; NOISE FROM A SEED: no guarantee against whoever knows it"
    if privacy.release_metrics:
        words += "; sums of losses and image counts leave outside the guarantee"
    return words


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Every setting that is not the default, under its dotted name."""
    return _changes(config.model_dump(mode="json"), RunConfig().model_dump(mode="json"), "")


def _changes(value: dict[str, Any], default: dict[str, Any], prefix: str) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, dict) and isinstance(default.get(name), dict):
            changed |= _changes(each, default[name], f"{prefix}{name}.")
        elif each != default.get(name):
            changed[prefix + name] = each
    return changed
