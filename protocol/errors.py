"""What can go wrong in a session, by whose fault, and what it means for the session.

``LocalProtocolError``   the caller's mistake; the session is unchanged.
``RemoteProtocolError``  a peer's mistake; the message was refused and the session goes on.
``SessionAborted``       this session is over for good and its secrets are dropped.

No message holds a key, a share, a seed, an update or the bytes of a refused message.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.proofs import Proof

__all__ = [
    "AbortReason",
    "LocalProtocolError",
    "Misbehaviour",
    "ProtocolError",
    "RemoteProtocolError",
    "SessionAborted",
]


class Misbehaviour(Enum):
    """What a peer did wrong; the value is the text shown to people."""

    # Truncated, over-long or non-canonical bytes, or a value outside its type's range.
    MALFORMED = "malformed message"
    # Not signed by the pinned key of the site that it claims to come from.
    BAD_SIGNATURE = "invalid signature"
    # The sender is in no roster or not in this round's cohort: an invented (Sybil) site.
    UNKNOWN_SENDER = "unknown sender"
    # Signed for another federation, round, attempt or model: a replay or a crossed message.
    FOREIGN_CONTEXT = "message of another round or attempt"
    # Legal in another state, sent to provoke an answer that this state must not give.
    UNEXPECTED_MESSAGE = "message not legal in this state"
    # Two different signed messages where there can be one: telling peers different things.
    EQUIVOCATION = "two different messages for one stage"
    # A round offer that is weaker than the local policy allows: a downgrade attack.
    POLICY_REFUSED = "round refused by local policy"
    # A round number that was already signed: a replay, or differencing of two sums of one round.
    ROUND_REPLAYED = "round already signed"
    # The model bytes are not those whose hash everybody agreed on: one model per victim.
    WRONG_MODEL = "model bytes do not match the announced hash"
    # Small-order, non-canonical, duplicated or reflected X25519 key: key substitution.
    BAD_PUBLIC_KEY = "invalid or duplicated public key"
    # Our own entry was changed, moved or left out by the server.
    OWN_ENTRY_CHANGED = "own entry missing or changed"
    # A share that differs from the one its dealer committed to: sabotage of the recovery.
    BAD_SHARE = "share does not match its commitment"
    # A dealing whose proof fails, or a share in it that its holder provably cannot use.
    BAD_DEALING = "unusable shares dealt"
    # A rebuilt secret that does not make its dealer's keys or open its capsules (hybrid suite).
    BAD_REBUILD = "shared another secret than that of its keys"
    # A set of ids that is unsorted, repeated, or not inside the set agreed one stage earlier.
    BAD_MEMBER_SET = "inconsistent set of members"
    # Fewer members or signatures than the quorum: the sum would hide too few inputs.
    BELOW_QUORUM = "fewer members or signatures than the quorum"
    # A complaint that proves nothing against the dealer it names.
    FALSE_COMPLAINT = "false complaint about a dealer"


class AbortReason(Enum):
    """Why a session ended without a result; the value is the text shown to people."""

    # Fewer sites than the quorum were left at the end of a stage.
    TOO_FEW_CLIENTS = "too few sites left"
    # The server sent something signed that breaks the protocol.
    SERVER_MISBEHAVED = "the server broke the protocol"
    # A dealer's shares were unusable; the attempt ends so that nobody's recovery depends on them.
    DEALER_MISBEHAVED = "a site dealt unusable shares"
    # Another session of this site signed this round first.
    ROUND_ALREADY_SIGNED = "this site has already signed this round"
    # Two sums of one round could come about without a common honest signer: differencing.
    ATTEMPTS_OVERLAP = "too few sites in common with another attempt at this round"
    # The session was copied or restored: the same masks would hide a second input.
    INPUT_ALREADY_SENT = "this site has already sent an input in this very attempt"
    # The caller gave up: the operator stopped, or the deadline passed.
    CANCELLED = "cancelled by the caller"


class ProtocolError(Exception):
    """Abstract root of every error that ``protocol`` raises on purpose."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise one of its subclasses")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """The caller's mistake: a wrong input, or a call that this state does not allow.

    Guarantee:  the session is unchanged; the caller may correct itself and call again.
    """


class RemoteProtocolError(ProtocolError):
    """A peer's mistake: its message was refused.

    ``peer`` is the site id that is to blame, or ``"server"``; where nobody is authenticated it is
    the sender that the transport named. ``detail`` says which field, never its secret content.
    ``proof`` convicts the peer where its message alone does not.
    """

    def __init__(
        self, peer: str, reason: Misbehaviour, detail: str = "", *, proof: Proof | None = None
    ) -> None:
        super().__init__(f"{peer}: {reason.value}" + (f" ({detail})" if detail else ""))
        self.peer = peer
        self.reason = reason
        self.detail = detail
        self.proof = proof


class SessionAborted(ProtocolError):  # noqa: N818 - an outcome, not only an error
    """This session is over; ``culprits`` are the peers to blame, as far as that can be told.

    ``proofs`` convict culprits by messages that they signed, where there are such messages.
    ``retry_allowed`` says whether another attempt at the same round is still safe: never after a
    survivor set went out to be signed, since two sums of one round can be subtracted.
    """

    def __init__(
        self,
        reason: AbortReason,
        detail: str = "",
        *,
        culprits: tuple[str, ...] = (),
        proofs: tuple[Proof, ...] = (),
        retry_allowed: bool = False,
    ) -> None:
        blamed = f"; at fault: {', '.join(culprits)}" if culprits else ""
        super().__init__(reason.value + (f" ({detail})" if detail else "") + blamed)
        self.reason = reason
        self.detail = detail
        self.culprits = culprits
        self.proofs = proofs
        self.retry_allowed = retry_allowed
