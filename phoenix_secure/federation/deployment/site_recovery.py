"""``site recover``: what a site does after it lost a file of promises, or got an older copy back.

What is lost cannot be looked up: the server would say what suits it. So the site takes part no more
in the plans whose promises are not certain. Where the privacy ledger may be older, too, it counts
those plans as spent in full. Every other plan goes on, and the server can propose the closed ones
again with another seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.kept_files import KeptFiles, Loss

__all__ = ["Recovery"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What is not certain at a site, and what giving it up means.

    losses       files that are not as the audit log tells
    plans        to be closed
    of_the_site  whether what is lost concerns all plans, and so the privacy budget
    """

    place: SiteFolder
    kept: KeptFiles
    losses: tuple[Loss, ...]
    plans: tuple[str, ...]
    of_the_site: bool

    @classmethod
    def of(cls, place: SiteFolder, *, is_restored: bool) -> Recovery:
        """Look at the site in ``place``; nothing is changed.

        is_restored    the whole folder came from a back-up: no plan in it is certain

        Raises:     CheckpointError for an audit log whose lines do not follow from one another.
        """
        kept = place.kept_files()
        losses = tuple(kept.losses())
        plans = {each.plan for each in losses if each.plan is not None}
        of_the_site = is_restored or any(each.plan is None for each in losses)
        return cls(
            place=place,
            kept=kept,
            losses=losses,
            plans=kept.plans if of_the_site else tuple(sorted(plans)),
            of_the_site=of_the_site,
        )

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to give up."""
        return bool(self.losses or self.plans)

    def carry_out(self, *, approver: Approver) -> dict[str, int]:
        """Close the plans; returns how many private releases each was charged on top.

        Guarantee:  charged and closed before the files count as whole again; can be repeated.
        Raises:     ConfigError where a plan's own file is gone; CheckpointError for a damaged
                    privacy ledger: move it away, and the budget is counted from the plans.
        """
        audit = self.place.audit()
        policy = self.place.settings().policy
        budget = SiteBudget(self.place, policy=policy, approver=approver)
        charged = {}
        for plan in self.plans:
            charged[plan] = budget.exhaust(self._offered(plan)) if self.of_the_site else 0
            audit.record("closed", plan=plan, releases_charged=charged[plan])
        why = [str(each) for each in self.losses]
        audit.record("recovered", why=why, kept=self.kept.anew())
        return charged

    def _offered(self, plan: str) -> Plan:
        try:
            return self.place.offered(plan)
        except ConfigError as error:
            raise ConfigError(
                f"{error}; the site cannot tell what plan {plan[:16]} may have spent: put its "
                f"file back into {self.place.plans}"
            ) from error
