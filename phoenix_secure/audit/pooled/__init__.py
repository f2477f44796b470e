"""Pooled audits: sites count, the federation sums, and the report follows from the sum."""

from phoenix_secure.audit.pooled.auditor import Auditor, keep_own_report
from phoenix_secure.audit.pooled.counting import SiteExaminer

__all__ = ["Auditor", "SiteExaminer", "keep_own_report"]
