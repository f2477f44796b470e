"""The members of the next roster, from those admitted and what the owner decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.join_request import JoinRequest
from protocol import (
    SERVER,
    ChangeKind,
    Identity,
    RemoteProtocolError,
    Roster,
    RosterChain,
    RosterChange,
)

__all__ = ["NextRoster"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NextRoster:
    """Who will take part, each by the request with its keys.

    requests   sorted by party; the server's among them
    changes    against the roster in force, sorted by party; none of the first one
    """

    requests: tuple[JoinRequest, ...]
    changes: tuple[RosterChange, ...] = ()

    @classmethod
    def first(cls, admitted: Iterable[JoinRequest]) -> NextRoster:
        """Everybody who was admitted."""
        return cls(requests=tuple(admitted))._complete()

    @classmethod
    def after(
        cls,
        chain: RosterChain,
        *,
        admitted: Iterable[JoinRequest],
        decided: Mapping[str, RosterChange],
    ) -> NextRoster:
        """Who is in the roster in force, but for what was admitted and decided since.

        Raises:     ConfigError where the request of a party is missing, or two things were decided
                    about one.
        """
        requests = {request.party: request for request in admitted}
        held = {SERVER: chain.current.server_key, **dict(chain.current.members)}
        changes: dict[str, RosterChange] = {}
        for party, request in requests.items():
            before, key = held.get(party), request.identity_key
            if key in (before, chain.suspended.get(party)) or key in chain.retired:
                continue
            known = before is not None or party in chain.suspended
            kind = ChangeKind.ROTATED if known else ChangeKind.ADDED
            changes[party], held[party] = RosterChange(kind=kind, party=party), key
        for party, change in decided.items():
            if party in changes:
                raise ConfigError(
                    f"{party} has new keys, and is to be {change.kind.value}: delete either "
                    f"admitted/{party}.admission or decided/{party}.decision"
                )
            changes[party] = change
            if change.kind is ChangeKind.RESUMED:
                held[party] = chain.suspended[party]
            else:
                held.pop(party, None)
        for party, key in held.items():
            found = requests.get(party)
            if found is None or found.identity_key != key:
                raise ConfigError(
                    f"the request with the keys of {party} is not in the folder admitted: restore "
                    f"{party}.admission from a copy, or admit {party} with new keys and --replaces"
                )
        return cls(
            requests=tuple(requests[party] for party in sorted(held)),
            changes=tuple(changes[party] for party in sorted(changes)),
        )._complete()

    @property
    def sites(self) -> dict[str, JoinRequest]:
        """Site -> its request."""
        return {each.party: each for each in self.requests if not each.is_server}

    def sign(self, owner: Identity, *, federation: str, before: RosterChain | None) -> RosterChain:
        """The rosters with this one as the newest; ``before`` itself where nothing changed.

        Raises:     ConfigError where it cannot follow.
        """
        keys = {site: request.identity_key for site, request in self.sites.items()}
        server_key = self._server.identity_key
        if before is None:
            roster = Roster.create(
                federation_id=federation,
                owner_key=owner.public_key,
                server_key=server_key,
                keys=keys,
            )
            return RosterChain.of([roster.sign(owner)], owner_key=owner.public_key)
        if not self.changes:
            return before
        try:
            chain = before.extended(owner, server_key=server_key, keys=keys, changes=self.changes)
            chain.to_bytes()  # one that is too long to be read is not signed
        except (RemoteProtocolError, ValueError) as error:
            raise ConfigError(
                f"no roster can follow ({error}): undo what was admitted or decided; if it is the "
                "length of the chain, found another federation"
            ) from error
        return chain

    def _complete(self) -> NextRoster:
        servers = [each for each in self.requests if each.is_server]
        if not servers or not self.sites:
            raise ConfigError(
                f"{'no site' if servers else 'no server'} is admitted yet: admit its request with "
                "`deploy admit`"
                if not self.changes
                else "no site would be left in the roster: resume one, or admit another one"
            )
        return self

    @property
    def _server(self) -> JoinRequest:
        return next(each for each in self.requests if each.is_server)
