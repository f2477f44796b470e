"""A request to the owner's page and its reply, as plain values."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PageReply", "PageRequest"]

_MAX_FIELDS = 8
# No script, no frame, nothing from elsewhere. Forms go here, and nobody shows the page in his own.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_ALWAYS = {
    "cache-control": "no-store",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # With no-referrer browsers would send `Origin: null` along with the page's own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRequest:
    """One request, complete.

    target    as it came, query included; never decoded
    headers   lower-case name -> value; one that came twice is joined with ", "
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def form(self) -> dict[str, str]:
        """The fields of a form; empty where the body is no form or a field comes twice."""
        if self.headers.get("content-type") != "application/x-www-form-urlencoded":
            return {}
        try:
            pairs = urllib.parse.parse_qsl(
                self.body.decode("ascii"), strict_parsing=True, max_num_fields=_MAX_FIELDS
            )
        except ValueError:
            return {}
        found = dict(pairs)
        return found if len(found) == len(pairs) else {}

    def cookies(self, name: str) -> list[str]:
        """Every value under ``name``: a neighbour on another port may have set one beside ours."""
        pairs = (each.strip().partition("=") for each in self.headers.get("cookie", "").split(";"))
        return [value for key, _, value in pairs if key == name]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageReply:
    """What goes back. ``headers`` come beside those that every reply has."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def all_headers(self) -> dict[str, str]:
        """Every header of the reply."""
        return {
            **_ALWAYS,
            "content-type": self.content_type,
            "content-length": str(len(self.body)),
            "connection": "close",
            **self.headers,
        }
