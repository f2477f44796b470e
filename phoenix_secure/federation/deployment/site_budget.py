"""The budget of a site's plans by ledger, approvals and policy: spent, reserved, asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan, plan_privacy
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.budget import (
    DataBudget,
    Reservation,
    data_budgets,
    require_fit,
    reservation_of,
)
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.federation.site.similar_plans import SimilarPlan, similar_plans
from phoenix_secure.privacy.data_sets import overlapping
from phoenix_secure.privacy.events import Event
from phoenix_secure.privacy.ledger import PrivacyLedger, Release

__all__ = ["SiteBudget"]


class SiteBudget:
    """The budget of the site in ``place``, as its files say at each call.

    approver    says which plans on the disk are approved
    """

    def __init__(
        self,
        place: SiteFolder,
        *,
        policy: SitePolicy,
        approver: Approver,
        cache_dir: Path | None = None,
    ) -> None:
        self._place = place
        self._policy = policy
        self._approver = approver
        self._cache_dir = default_cache_dir() if cache_dir is None else cache_dir

    def rows(self, plan: Plan | None = None) -> list[DataBudget]:
        """The budget spent and reserved for each data set; with ``plan``, what it would add.

        Raises:     ConfigError where a plan's privacy settings mean nothing; AccountingError.
        """
        releases = self._releases()
        return data_budgets(
            releases,
            self._reservations(releases, but=plan),
            groups=overlapping((each.data for each in releases), folder=self._place.record_hashes),
            total=self._policy.total_budget,
            delta=self._policy.max_delta,
            added=None if plan is None else self._reservation(plan, releases),
        )

    def require_fit(self, plan: Plan) -> None:
        """Before ``plan`` is approved: it must fit beside every other approved plan.

        Raises:     BudgetExhausted; ConfigError; AccountingError.
        """
        self._require_fit(plan, only_begun=False)

    def require_fit_to_start(self, plan: Plan) -> None:
        """Before ``plan`` trains: it must fit beside what the plans that have begun reserved.

        A plan that has begun is not pushed out by one that was approved later elsewhere.

        Raises:     as ``require_fit``.
        """
        self._require_fit(plan, only_begun=True)

    def begun(self, plan: Plan) -> tuple[Event, ...]:
        """The events that the site has released under ``plan``, by its ledger."""
        return tuple(each.event for each in self._releases() if each.plan == plan.hash)

    def similar(self, plan: Plan) -> list[SimilarPlan]:
        """Approved plans that ``plan`` nearly repeats, and those that this site trained under."""
        return similar_plans(plan, self._approved(or_trained=True))

    def _require_fit(self, plan: Plan, *, only_begun: bool) -> None:
        total = self._policy.total_budget
        if total is None:
            return
        releases = self._releases()
        added = self._reservation(plan, releases)
        if added is None:
            return
        others = self._reservations(releases, but=plan)
        kept = tuple(each for each in others if each.has_begun or not only_begun)
        require_fit(releases, kept, added, total=total)

    def _releases(self) -> tuple[Release, ...]:
        path = self._place.privacy_ledger
        return PrivacyLedger(path).releases() if path.exists() else ()

    def _reservations(
        self, releases: tuple[Release, ...], *, but: Plan | None
    ) -> tuple[Reservation, ...]:
        found = (
            self._reservation(plan, releases)
            for plan in self._approved()
            if but is None or plan.hash != but.hash
        )
        return tuple(each for each in found if each is not None and each.releases)

    def _approved(self, *, or_trained: bool = False) -> Iterator[Plan]:
        for path in sorted(self._place.plans.glob("*.json")):
            is_old = or_trained and self._place.has_record(path.stem)
            if not (is_old or self._approver.decide(path.stem).approved):
                continue
            try:
                plan = Plan.from_bytes(path.read_bytes())
            except (OSError, ConfigError):
                continue  # the gate refuses it for the same reason
            if plan.hash == path.stem:
                yield plan

    def _reservation(self, plan: Plan, releases: tuple[Release, ...]) -> Reservation | None:
        private = self._privacy(plan.config)
        if private is None:
            return None
        return reservation_of(
            plan.hash,
            event=next(iter(self.begun(plan)), private.event),
            max_releases=private.max_releases,
            releases=releases,
        )

    def _privacy(self, config: RunConfig) -> PrivacyPlan | None:
        if config.privacy.unit != "site" and not config.sums_whole_numbers:
            return plan_privacy(config, terms=None)
        # Noise of sums is made for the size of what they send.
        from phoenix_secure.device import pick_devices
        from phoenix_secure.federation.heterogeneity.deployment import (
            deployment_strategies,
        )
        from phoenix_secure.federation.secagg.terms import choose_terms
        from phoenix_secure.rng import SeedTree

        run = deployment_strategies(
            config,
            seeds=SeedTree(config.seed),
            device=pick_devices("cpu")[0],
            cache_dir=self._cache_dir,
        )
        terms = None
        if config.secure_aggregation.mode == "on":
            terms = choose_terms(
                config, num_parameters=run.exchange.num_uploaded, layout=run.release
            )
        num_parameters = run.exchange.num_uploaded
        return plan_privacy(config, terms=terms, layout=run.release, num_parameters=num_parameters)
