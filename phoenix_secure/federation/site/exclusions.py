"""The stage in which a site hears who is excluded, checks why, and writes it down."""

from __future__ import annotations

from collections.abc import Callable

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.exclusions import ExclusionNotice
from phoenix_secure.federation.round.messages import MalformedMessage
from phoenix_secure.federation.round.stages import EXCLUSION_STAGE
from protocol import Roster

__all__ = ["Note", "with_exclusions"]

Handler = Callable[[str, bytes], bytes]
# Writes an event and its facts to the site's own log.
Note = Callable[..., object]


def with_exclusions(handle: Handler, *, roster: Roster, note: Note) -> Handler:
    """``handle``, preceded by the stage of its own in which the server names the excluded.

    Every member of ``roster`` is noted once, whatever a server repeats.
    """
    noted: set[str] = set()

    def answer(stage: str, body: bytes) -> bytes:
        if stage != EXCLUSION_STAGE:
            return handle(stage, body)
        try:
            notice = ExclusionNotice.from_bytes(body)
        except MalformedMessage as error:
            raise SiteFailure(FailureCode.MALFORMED, why=str(error)) from None
        for each in notice.exclusions:
            if roster.key(each.site) is None or each.site in noted:
                continue
            noted.add(each.site)
            note(
                "excluded",
                site=each.site,
                why=f"{each.site}: {each.reason} (round {each.training_round}; "
                f"{each.grounds(roster)})",
                proof=each.proof,
            )
        return b""

    return answer
