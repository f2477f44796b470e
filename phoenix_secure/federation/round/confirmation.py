"""Sites' signatures under the model that they computed from a round's sum.

A site that was away cannot compute the model: it has no authentic sum. It believes a model that
more than C sites signed, where C sites of the roster may work with the server: one of the signers
at least is honest, and signs only what it computed itself, or believed for the same reason.

With C = 0 that would be one signature, and a single site that works with the server after all, or
whose key was stolen, could give every other one any model: far more than a look at one sum. So two
are asked for, as with C = 1. Three sites can give them: of the two others, if one missed a result.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from protocol import SERVER, Identity, Roster
from protocol.encoding import Reader, encode, encode_text, encode_uint
from protocol.identity import MAX_SIGNATURE_SIZE, SIGNATURE_SIZE, verify_signature

__all__ = ["Certificate", "Confirmation", "ModelClaim", "num_signers"]

_LABEL = b"phoenix-secure/model-confirmation/v1"
_HASH_SIZE = 32
_MAX_ROUND = 1 << 32


def num_signers(num_colluders: int) -> int:
    """Signatures that make a model believed: more than C, and never a single one.

    >>> num_signers(0), num_signers(1), num_signers(7)
    (2, 2, 8)
    """
    return max(1, num_colluders) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelClaim:
    """A statement: in the run ``plan``, this sum in this round led to this state.

    plan     32 bytes that name the run and all of its settings
    sum      digest of the packed sum
    state    digest of the state after the round (``ServerState.digest``)
    """

    plan: bytes
    round_number: int
    sum: bytes
    state: bytes

    def message(self, *, roster: Roster, site: str) -> bytes:
        """What ``site`` signs."""
        return encode(
            [
                _LABEL,
                encode_text(roster.federation_id),
                roster.hash,
                self.plan,
                encode_uint(self.round_number),
                self.sum,
                self.state,
                encode_text(site),
            ]
        )

    def confirmed_by(self, identity: Identity, *, roster: Roster) -> Confirmation:
        """The site's signature under this statement."""
        signature = identity.sign(self.message(roster=roster, site=identity.id))
        return Confirmation(claim=self, site=identity.id, signature=signature)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """One site's signature."""

    claim: ModelClaim
    site: str
    signature: bytes

    def to_bytes(self) -> bytes:
        return encode([self.claim.state, self.signature])

    @classmethod
    def from_bytes(
        cls, body: bytes, *, site: str, plan: bytes, round_number: int, sum_digest: bytes
    ) -> Confirmation:
        """Parse the answer of ``site``; who asked knows everything but the state.

        Raises:     RemoteProtocolError naming the site.
        """
        reader = Reader(body, peer=site)
        state = reader.exact("state", size=_HASH_SIZE)
        signature = _read_signature(reader)
        reader.finish()
        claim = ModelClaim(plan=plan, round_number=round_number, sum=sum_digest, state=state)
        return cls(claim=claim, site=site, signature=signature)

    def is_valid(self, roster: Roster) -> bool:
        """Whether the site of the roster signed it."""
        message = self.claim.message(roster=roster, site=self.site)
        key = roster.key(self.site) or b""
        return verify_signature(key, signature=self.signature, message=message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """A statement, and who signed it: (site, signature), sorted by site."""

    claim: ModelClaim
    signatures: tuple[tuple[str, bytes], ...]

    def to_bytes(self) -> bytes:
        claim = self.claim
        fields = [claim.plan, encode_uint(claim.round_number), claim.sum, claim.state]
        return encode([*fields, encode(encode([encode_text(s), b]) for s, b in self.signatures)])

    @classmethod
    def from_bytes(
        cls, data: bytes | memoryview, *, max_sites: int, peer: str = SERVER
    ) -> Certificate:
        """Parse; it proves nothing before ``objection`` finds none.

        Raises:     RemoteProtocolError naming ``peer``.
        """
        reader = Reader(data, peer=peer)
        plan = reader.exact("plan", size=_HASH_SIZE)
        round_number = reader.uint("round", max_value=_MAX_ROUND)
        hashes = [reader.exact(name, size=_HASH_SIZE) for name in ("sum", "state")]

        def signature(items: Reader) -> tuple[str, bytes]:
            item = Reader(items.view("signature", max_size=256 + MAX_SIGNATURE_SIZE), peer=peer)
            found = item.text("site"), _read_signature(item)
            item.finish()
            return found

        signatures = reader.items(
            "signatures", signature, max_items=max_sites, max_size=len(memoryview(data))
        )
        reader.finish()
        claim = ModelClaim(plan=plan, round_number=round_number, sum=hashes[0], state=hashes[1])
        return cls(claim=claim, signatures=tuple(signatures))

    def only(self, site: str) -> Certificate | None:
        """The signature of ``site`` alone, if it is there."""
        own = tuple(each for each in self.signatures if each[0] == site)
        return replace(self, signatures=own) if own else None

    def without(self, sites: Container[str]) -> Certificate:
        """The statement without the signatures of ``sites``."""
        return replace(self, signatures=tuple(s for s in self.signatures if s[0] not in sites))

    def is_signed_by(self, site: str, *, roster: Roster) -> bool:
        """Whether ``site`` of the roster signed the statement."""
        return any(
            Confirmation(claim=self.claim, site=id, signature=signature).is_valid(roster)
            for id, signature in self.signatures
            if id == site
        )

    def objection(
        self,
        *,
        plan: bytes,
        roster: Roster,
        num_colluders: int,
        removed: Container[str] = frozenset(),
    ) -> str | None:
        """Why this proves nothing; None where ``num_signers`` sites of the roster signed the
        statement, each once, in the run ``plan``.

        removed   whose signatures count no more, also those of before: a key that was stolen signs
                  whatever its thief likes to have been signed then
        """
        if self.claim.plan != plan:
            return "the signatures are of another plan"
        sites = [site for site, _ in self.signatures]
        if sites != sorted(set(sites)):
            return "the signatures are not of different sites"
        for site, signature in self.signatures:
            if site in removed:
                return f"{site}, which signed it, is not in the roster in force"
            if not Confirmation(claim=self.claim, site=site, signature=signature).is_valid(roster):
                return f"the signature of {site} does not hold"
        if len(sites) < num_signers(num_colluders):
            return (
                f"{len(sites)} sites signed it, and {num_colluders} may work with the server: "
                f"{num_signers(num_colluders)} are needed"
            )
        return None


def _read_signature(reader: Reader) -> bytes:
    """Of either suite: the signer's key in the roster decides which one is right."""
    return bytes(reader.view("signature", min_size=SIGNATURE_SIZE, max_size=MAX_SIGNATURE_SIZE))
