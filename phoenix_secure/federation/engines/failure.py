"""The failure codes of a site: a code leaves the site, and nothing else."""

from __future__ import annotations

from phoenix_secure.federation.engines.exchange import FailureCode

__all__ = ["SiteFailure"]


class SiteFailure(Exception):  # noqa: N818
    """A code is all that leaves the site; ``why`` names the broken rule in its own audit log.

    ``why`` is one line without secrets, updates or paths.
    """

    def __init__(self, code: FailureCode, *, why: str = "") -> None:
        super().__init__(code.value)
        self.code = code
        self.why = why
