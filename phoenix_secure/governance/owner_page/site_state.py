"""What the owner's page shows of a site: plans and what decides over each, the round, the log.

Read anew for each request, from the files that the site's own commands read. Nothing is written:
a plan that was looked at here is not thereby reviewed (``site review``), let alone approved.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phoenix_secure.errors import BudgetExhausted, PhoenixError
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_settings import SiteSettings
from phoenix_secure.federation.run.roster_rule import roster_objection
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.plan_sheet import PlanSheet
from phoenix_secure.secret_files import check_private
from protocol import RosterChain

if TYPE_CHECKING:
    from phoenix_secure.federation.run.plan import Plan
    from phoenix_secure.governance.desk import ReviewDesk

__all__ = ["LiveRound", "LogLine", "OwnCheck", "PlanStanding", "SiteState", "Standing"]

_OF_ROUNDS = ("ready", "answered", "answered again", "failed", "refused")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A line of the audit log, as far as it is shown; empty where it says nothing of the kind."""

    time: str
    event: str
    plan: str
    stage: str
    code: str
    why: str

    @classmethod
    def of(cls, facts: dict[str, Any]) -> LogLine:
        return cls(**{name: str(facts.get(name) or "") for name in cls.__slots__})


class Standing(enum.StrEnum):
    """Where a plan stands at this site."""

    WAITS = "waits for you"
    APPROVED = "approved"
    REFUSED = "refused"
    REJECTED = "rejected"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStanding:
    """One plan.

    name       what commands call it: the plan's hash, or a proposal's name where it has none
    plan       None for a proposal that cannot be read
    rule       what decides: the policy's rule, a signature that is there or missing, the log
    facts      the sheet that every owner reads (``PlanSheet.facts``)
    offered    when its file came; None for a proposal, which PySyft keeps
    """

    name: str
    plan: Plan | None
    standing: Standing
    rule: str
    facts: dict[str, Any]
    offered: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRound:
    """What the site does, by its own log.

    is_running   it was started, and not stopped since; one that was killed says nothing
    since        of the start or the stop; None: it was never started
    plan         that the newest request was about
    finished     training rounds of which this site saw the result, out of ``rounds``
    """

    is_running: bool
    since: str | None
    plan: str | None = None
    rounds: int | None = None
    finished: int | None = None
    last: LogLine | None = None
    recent: list[LogLine] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnCheck:
    """One thing that the site finds about its own files."""

    name: str
    is_good: bool
    said: str


class SiteState:
    """The site in ``place`` as its files are now.

    Raises:     ConfigError for settings, rosters or keys that are not as they must be;
                CheckpointError for an audit log that was changed, or is missing.
    """

    def __init__(self, place: SiteFolder) -> None:
        self.place = place
        self.settings: SiteSettings = place.settings()
        self.rosters: RosterChain = place.rosters()
        audit = place.audit()
        self.last_hash = audit.last_hash
        self.lines = [LogLine.of(facts) for facts in audit.lines()]
        self._desk = self._open_desk()
        desk = self._desk
        self._approver: Approver = (
            place.approver(self.settings) if desk is None else desk.approver()
        )
        self.budget: SiteBudget = (
            SiteBudget(place, policy=self.settings.policy, approver=self._approver)
            if desk is None
            else desk.budget()
        )
        self._closed = place.kept_files().closed

    @property
    def uses_pysyft(self) -> bool:
        """Whether plans come as proposals, which are reviewed before they are approved."""
        return self._desk is not None

    def plans(self) -> list[PlanStanding]:
        """Every plan that was offered or proposed; those that wait for the owner first."""
        order = list(Standing)
        found = list(self._proposed())
        found += self._offered(but={each.name for each in found})
        return sorted(found, key=lambda each: (order.index(each.standing), each.name))

    def live(self, *, most: int = 30) -> LiveRound:
        """What the site does, and the last ``most`` lines about it, newest first."""
        turns = [line for line in self.lines if line.event in ("started", "stopped")]
        asked = [line for line in self.lines if line.event in _OF_ROUNDS and line.plan]
        is_running = bool(turns) and turns[-1].event == "started"
        since = turns[-1].time if turns else None
        if not asked:
            return LiveRound(is_running=is_running, since=since)
        plan = asked[-1].plan
        rounds = finished = None
        # A request may name anything; only a plan that this site keeps is looked up.
        if any(path.stem == plan for path in self._files()):
            rounds = self.place.offered(plan).config.federation.rounds
            if self.place.has_promises(plan):
                finished = self.place.record(plan).finished_round
        return LiveRound(
            is_running=is_running,
            since=since,
            plan=plan,
            rounds=rounds,
            finished=finished,
            last=asked[-1],
            recent=asked[: -most - 1 : -1],
        )

    def checks(self) -> list[OwnCheck]:
        """The site's own audit: is the log whole, is every promise there, are the keys private."""
        found = [
            OwnCheck(
                name="log",
                is_good=True,  # else there would be no state
                said=f"{len(self.lines)} lines, unbroken; last hash {self.last_hash}",
            )
        ]
        lost = self.place.lost()
        found.append(
            OwnCheck(
                name="promises, ledger and keys of before",
                is_good=not lost,
                said="; ".join(lost) or "every file is as the log says",
            )
        )
        for path in self.place.secrets:
            try:
                check_private(path)
                said, is_good = "for this user alone", True
            except PhoenixError as error:
                said, is_good = str(error), False
            found.append(OwnCheck(name=path.name, is_good=is_good, said=said))
        is_away = not self.place.approver_key.exists()
        found.append(
            OwnCheck(
                name="approver.key",
                is_good=is_away,
                said="not on this machine's folder of the site"
                if is_away
                else "still in the site's folder: whoever runs the site can approve with it; take "
                "it to the person who answers for the images",
            )
        )
        return found

    def _open_desk(self) -> ReviewDesk | None:
        if self.settings.approver != "syft":
            return None
        from phoenix_secure.governance.desk import ReviewDesk

        return ReviewDesk(self.place)

    def _files(self) -> list[Path]:
        return sorted(self.place.plans.glob("*.json"))

    def _offered(self, *, but: set[str]) -> Iterator[PlanStanding]:
        """Plans on this site's disk; with PySyft, those of which the proposal is gone."""
        for path in self._files():
            if path.stem in but:
                continue
            plan = self.place.offered(path.stem)
            sheet = PlanSheet.of(plan, policy=self.settings.policy)
            standing, rule = self._standing(plan, sheet.objections)
            yield PlanStanding(
                name=plan.hash,
                plan=plan,
                standing=standing,
                rule=rule,
                facts=sheet.facts(),
                offered=dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC),
            )

    def _proposed(self) -> Iterator[PlanStanding]:
        for review in self._desk.reviews() if self._desk is not None else ():
            proposal = review.proposal
            if proposal is None:
                plan, standing, rule = None, Standing.REFUSED, "; ".join(review.objections)
            else:
                plan = proposal.plan
                standing, rule = self._standing(plan, review.objections)
            yield PlanStanding(
                name=review.job.name if plan is None else plan.hash,
                plan=plan,
                standing=standing,
                rule=rule,
                facts=review.facts(),
                offered=None,
            )

    def _standing(self, plan: Plan, objections: tuple[str, ...]) -> tuple[Standing, str]:
        """The first thing that decides, in the order in which the site's gate asks."""
        if plan.hash in self._closed:
            return Standing.CLOSED, "ended by `site close-plans`, for good"
        if objections:
            return Standing.REFUSED, "; ".join(objections)
        roster = roster_objection(plan, self.rosters, site=self.settings.site)
        if roster is not None:
            return Standing.REFUSED, f"roster: {roster}"
        decision = self._approver.decide(plan.hash)
        if decision.approved:
            return Standing.APPROVED, f"meets the policy, and {decision.why}"
        rejected = self._rejection(plan.hash)
        if rejected is not None:
            return Standing.REJECTED, rejected
        try:
            self.budget.require_fit(plan)
        except BudgetExhausted as error:
            return Standing.REFUSED, f"policy: {error}"
        return Standing.WAITS, f"meets the policy; denied as long as there is {decision.why}"

    def _rejection(self, plan: str) -> str | None:
        """The owner's reason, where the owner's last word on a plan was no."""
        words = [
            line
            for line in self.lines
            if line.event in ("approved", "rejected") and line.plan == plan
        ]
        if not words or words[-1].event == "approved":
            return None
        return f"by you: {words[-1].why}"
