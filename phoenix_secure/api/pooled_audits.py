"""Pooled audits: what a site's program counts with, and a server's run reports with.

The imports inside the functions keep sites without such a plan small.
"""

from __future__ import annotations

from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.site.pooled_audit import Examiner

__all__ = ["deployed_run", "site_examiner"]


def site_examiner() -> Examiner:
    """Counts for one site, and keeps the site's own report in its folder."""
    from phoenix_secure.audit.pooled import SiteExaminer, keep_own_report

    return SiteExaminer(keep=keep_own_report)


def deployed_run(sites: DeployedSites) -> Run:
    """A run over real sites, with an audit at its end where the plan has one."""
    if not sites.config.audit.at_sites:
        return Run(sites)
    from phoenix_secure.audit.pooled import Auditor

    return Run(sites, auditor=Auditor(sites.config, plan=sites.plan.hash))
