"""The server's own key, and the sites' keys that it believes."""

from __future__ import annotations

from dataclasses import dataclass

from protocol import Identity, Roster

__all__ = ["ServerParty"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ServerParty:
    """The server's signing identity, and the roster whose signatures it accepts.

    roster         as its owner signed it
    round_roster   the same members under the federation id that binds secure rounds to one plan
    """

    identity: Identity
    roster: Roster
    round_roster: Roster
