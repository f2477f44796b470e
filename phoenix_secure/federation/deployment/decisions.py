"""What the federation's owner decided about sites of the roster, until the next one is signed.

::

    PARTY.decision  = encode(body, owner's signature)
    body            = encode(label, hash of the roster that it changes, change)

A decision counts for the roster that it names and no other: one of an earlier epoch that somebody
puts back changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.carried_files import read_carried, signed_parts
from phoenix_secure.files import storage_errors, write_bytes
from protocol import SERVER, ChangeKind, Identity, RemoteProtocolError, RosterChain, RosterChange
from protocol.encoding import Reader, encode
from protocol.identity import MAX_SIGNATURE_SIZE, verify_signature
from protocol.roster_changes import MAX_CHANGE_SIZE

__all__ = ["Decisions"]

_LABEL = b"phoenix-secure/roster-decision/v1"
_HASH_SIZE = 32
_MAX_BODY = MAX_CHANGE_SIZE + 128
_MAX_SIZE = _MAX_BODY + MAX_SIGNATURE_SIZE + 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """The folder ``decided`` of the owner whose identity is ``owner``.

    chain   the rosters that are signed
    """

    folder: Path
    owner: Identity
    chain: RosterChain

    def pending(self) -> dict[str, RosterChange]:
        """Party -> what the next roster will say of it.

        Raises:     ConfigError for a file that this owner did not sign.
        """
        found = (self._read(path) for path in sorted(self.folder.glob("*.decision")))
        return {change.party: change for change in found if change is not None}

    def decide(self, change: RosterChange) -> None:
        """Keep ``change`` for the next roster; it takes the place of an earlier one.

        Raises:     ConfigError where the party is not as the change needs it.
        """
        party, kind = change.party, change.kind
        if party == SERVER:
            raise ConfigError(
                "a federation always has a server: admit another one's keys with `deploy admit "
                "--replaces server`"
            )
        is_member, is_suspended = self.chain.current.key(party), self.chain.suspended.get(party)
        if kind is ChangeKind.RESUMED and is_member and party in self.pending():
            with storage_errors(self.folder):
                self._path(party).unlink()
            return
        possible = {
            ChangeKind.SUSPENDED: is_member,
            ChangeKind.REVOKED: is_member or is_suspended,
            ChangeKind.RESUMED: is_suspended,
        }
        if not possible[kind]:
            sites = ", ".join(site for site, _ in self.chain.current.members)
            away = ", ".join(sorted(self.chain.suspended)) or "none"
            raise ConfigError(
                f"{party} cannot be {kind.value}: in the roster are {sites}; suspended are {away}"
            )
        body = encode([_LABEL, self.chain.current.hash, change.encode()])
        write_bytes(self._path(party), encode([body, self.owner.sign(body)]))

    def _read(self, path: Path) -> RosterChange | None:
        """The decision in ``path``; None for one about an earlier roster."""
        content = read_carried(path, what="a decision", max_size=_MAX_SIZE)
        try:
            body, signature = signed_parts(content, peer="decision", max_size=_MAX_BODY)
            reader = Reader(body, peer="decision")
            is_ours = bytes(reader.view("label", max_size=64)) == _LABEL
            after = reader.exact("roster", size=_HASH_SIZE)
            change = RosterChange.decode(
                reader.view("change", max_size=MAX_CHANGE_SIZE), peer="decision"
            )
            reader.finish()
            is_ours = is_ours and path == self._path(change.party)
        except RemoteProtocolError:
            is_ours = False
        if not is_ours or not verify_signature(
            self.owner.public_key, signature=signature, message=body
        ):
            raise ConfigError(
                f"{path} is no decision that this owner signed: delete it, and decide with "
                "`deploy suspend`, `resume` or `revoke`"
            )
        return change if after == self.chain.current.hash else None

    def _path(self, party: str) -> Path:
        return self.folder / f"{party}.decision"
