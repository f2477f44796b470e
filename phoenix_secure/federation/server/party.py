"""The server's own key, and the sites' keys that it believes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phoenix_secure.federation.round.epoch import RoundEpoch
from protocol import Identity, Roster, RosterChain

__all__ = ["RostersInForce", "ServerParty"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RostersInForce:
    """All rosters of the federation at one moment, and what the newest means for the run."""

    chain: RosterChain
    epoch: RoundEpoch


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ServerParty:
    """The server's signing identity, and the roster whose signatures it accepts.

    roster         of the plan, as its owner signed it
    round_roster   the same members under the federation id that binds secure rounds to one plan
    look           reads the rosters in force, and raises TrainingError where the plan does not go
                   on under them; None where they do not change (a simulation)
    plan           for sites that come back while the run goes on
    """

    identity: Identity
    roster: Roster
    round_roster: Roster
    look: Callable[[], RostersInForce] | None = None
    plan: bytes = b""
