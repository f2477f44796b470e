"""Sites that are never asked again, with what convicts them: kept, recorded, and told to all sites.

The notice is not believed for who sent it. It carries the messages that the culprit signed, so that
a site checks them against the roster it pinned, and a server that frames somebody is seen to.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from phoenix_secure.federation.round.messages import MalformedMessage
from phoenix_secure.journal import kind_codec
from protocol import Misbehaviour, Proof, Roster, is_proven, is_signed
from protocol.encoding import is_id

__all__ = ["Exclusion", "ExclusionNotice"]

_HEXADECIMAL = frozenset(string.hexdigits)
_MAX_EXCLUSIONS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """A site that is never asked again, and the signed messages that convict it, in hexadecimal.

    ``proof`` is ``protocol.Proof.digest`` of them.
    """

    training_round: int
    site: str
    reason: str
    proof: str
    context: str
    messages: tuple[str, ...]

    @classmethod
    def of(cls, proof: Proof, *, training_round: int) -> Exclusion:
        """The exclusion of who is convicted by ``proof``."""
        return cls(
            training_round=training_round,
            site=proof.culprit,
            reason=proof.reason.value,
            proof=proof.digest.hex(),
            context=proof.context.hex(),
            messages=tuple(message.hex() for message in proof.messages),
        )

    @property
    def summary(self) -> dict[str, str]:
        """For records that people read."""
        return {"site": self.site, "reason": self.reason, "proof": self.proof}

    def grounds(self, roster: Roster) -> str:
        """How far the messages carry by themselves, for whoever holds the roster."""
        try:
            proof = Proof(
                culprit=self.site,
                reason=Misbehaviour(self.reason),
                context=bytes.fromhex(self.context),
                messages=tuple(bytes.fromhex(message) for message in self.messages),
            )
        except ValueError:
            return _UNPROVEN
        if proof.digest.hex() != self.proof:
            return _UNPROVEN
        if is_proven(proof, roster=roster):
            return "proven by its own signed messages"
        return (
            "it signed what the server calls so" if is_signed(proof, roster=roster) else _UNPROVEN
        )


_UNPROVEN = "by the server's word alone"
_ENCODE, _DECODE = kind_codec({"excluded": Exclusion})


@dataclass(frozen=True, kw_only=True, slots=True)
class ExclusionNotice:
    """What the server tells its sites: who is excluded, and why. A JSON line for each."""

    exclusions: tuple[Exclusion, ...]

    def to_bytes(self) -> bytes:
        return b"\n".join(_ENCODE(each) for each in self.exclusions)

    @classmethod
    def from_bytes(cls, body: bytes) -> ExclusionNotice:
        """Read what ``to_bytes`` made.

        Raises:     MalformedMessage.
        """
        lines = body.split(b"\n", _MAX_EXCLUSIONS)
        try:
            found = tuple(_checked(_DECODE(line)) for line in lines)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise MalformedMessage("expected a line for each excluded site") from error
        return cls(exclusions=found)


def _checked(exclusion: Exclusion) -> Exclusion:
    """Nothing but ids, known reasons and hexadecimal digits enters a site's log."""
    Misbehaviour(exclusion.reason)
    texts = (exclusion.proof, exclusion.context, *exclusion.messages)
    if not is_id(exclusion.site) or len(exclusion.proof) != 64 or len(exclusion.context) != 64:
        raise ValueError("expected a site and two hashes")
    if not all(_HEXADECIMAL.issuperset(text) for text in texts):
        raise ValueError("expected hexadecimal digits")
    return exclusion
