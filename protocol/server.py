"""The server's side of one attempt at one round: bytes in, bytes and events out.

Rules that hold in every state:
- A message that is not signed by its sender's pinned key, or belongs to another attempt, is
  refused and changes nothing: anybody on the network can send such a message.
- A signed message that breaks the protocol is refused by name and its sender falls out of the
  round when the stage closes; the round goes on if the quorum is left.
- Late and repeated messages are ignored. The driver owns the clock: it calls ``close_stage``.
- After a survivor set went out, the round is never tried again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.errors import (
    LocalProtocolError,
    Misbehaviour,
    ProtocolError,
    RemoteProtocolError,
    SessionAborted,
)
from protocol.events import IgnoreReason, MessageIgnored
from protocol.identity import SERVER, Identity
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    ConsistencyCheck,
    Envelope,
    MaskedInput,
    ShareKeys,
    Unmask,
)
from protocol.messages.limits import reply_limits
from protocol.proofs import Proof
from protocol.roster import Roster
from protocol.server_rounds import (
    close_checking,
    close_unmasking,
    collect_signature,
    collect_unmask,
)
from protocol.server_setup import (
    ServerStep,
    add_input,
    announce,
    check_attachment,
    close_advertising,
    close_masking,
    close_sharing,
    collect_keys,
    collect_shares,
    settle_complaint,
)
from protocol.server_states import (
    Advertising,
    Centre,
    Checking,
    Completed,
    Masking,
    Planned,
    Sharing,
    Unmasking,
)
from protocol.session import Aborted, Move, Session, State
from protocol.spec import RoundSpec

__all__ = ["SERVER_TABLE", "ServerSession", "ServerStep"]

# Every legal pair of state and message (or call); all else is an error.
SERVER_TABLE: Final[dict[tuple[type[State], str], Move]] = {
    (Planned, "start"): Move(handler=announce, to=(Advertising,)),
    (Advertising, "AdvertiseKeys"): Move(handler=collect_keys, to=(Advertising,)),
    (Advertising, "close_stage"): Move(handler=close_advertising, to=(Sharing, Aborted)),
    (Sharing, "ShareKeys"): Move(handler=collect_shares, to=(Sharing,)),
    (Sharing, "close_stage"): Move(handler=close_sharing, to=(Masking, Aborted)),
    (Masking, "MaskedInput"): Move(handler=add_input, to=(Masking,)),
    (Masking, "Complaint"): Move(handler=settle_complaint, to=(Aborted,)),
    (Masking, "close_stage"): Move(handler=close_masking, to=(Checking, Aborted)),
    (Checking, "ConsistencyCheck"): Move(handler=collect_signature, to=(Checking,)),
    (Checking, "close_stage"): Move(handler=close_checking, to=(Unmasking, Aborted)),
    (Unmasking, "Unmask"): Move(handler=collect_unmask, to=(Unmasking,)),
    (Unmasking, "close_stage"): Move(handler=close_unmasking, to=(Completed, Aborted)),
}

_NAMES: Final = {
    kind.LABEL: kind.__name__
    for kind in (AdvertiseKeys, ShareKeys, MaskedInput, Complaint, ConsistencyCheck, Unmask)
}
# The order of stages tells late messages from early ones.
_ORDER: Final = (Planned, Advertising, Sharing, Masking, Checking, Unmasking, Completed)
_STAGE_OF: Final = {
    "AdvertiseKeys": Advertising,
    "ShareKeys": Sharing,
    "MaskedInput": Masking,
    "Complaint": Masking,
    "ConsistencyCheck": Checking,
    "Unmask": Unmasking,
}


class ServerSession(Session):
    """One attempt at one round over ``spec``; ``spec.next_attempt`` gives the next one's.

    Memory is one vector of words and O(n^2) commitments. ``num_threads`` serves the removal of
    masks. A session is not thread-safe.

    Raises:     ValueError where identity, roster and spec do not belong together.
    """

    __slots__ = ("_centre", "_excluded", "_limits", "_proofs", "_seen")

    def __init__(
        self, identity: Identity, *, roster: Roster, spec: RoundSpec, num_threads: int = 1
    ) -> None:
        super().__init__(Planned(), table=SERVER_TABLE)
        if identity.id != SERVER or identity.public_key != roster.server_key:
            raise ValueError("expected the identity of the roster's server")
        if spec.roster_hash != roster.hash or spec.federation_id != roster.federation_id:
            raise ValueError("expected a spec for this roster")
        if spec.suite is not roster.suite:
            raise ValueError(f"expected a spec of the roster's suite, {roster.suite.value}")
        if any(roster.key(id) is None for id in spec.cohort):
            raise ValueError("expected a cohort of roster members")
        self._centre = Centre(
            identity=identity,
            roster=roster,
            spec=spec,
            context=spec.context,
            points={id: place for place, id in enumerate(spec.cohort, start=1)},
            num_threads=num_threads,
        )
        self._limits = reply_limits(spec)
        self._excluded: dict[str, Misbehaviour] = {}
        self._proofs: list[Proof] = []
        self._seen: dict[tuple[str, str], bytes] = {}

    @property
    def spec(self) -> RoundSpec:
        """What this attempt is about."""
        return self._centre.spec

    @property
    def excluded(self) -> dict[str, Misbehaviour]:
        """Who signed a message that breaks the protocol, and how."""
        return dict(self._excluded)

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """What convicts those who are excluded, in the order in which they were found out.

        A masked input is too large to be kept, and stays out of the proof against its sender.
        """
        return tuple(self._proofs)

    @property
    def waiting_for(self) -> frozenset[str]:
        """Sites whose answer in the present stage may still come; empty: close the stage."""
        expected, answered = self._expected()
        return frozenset(expected) - frozenset(answered) - self._excluded.keys()

    @property
    def reply_limit(self) -> int:
        """Bytes of the largest message that a site may answer with in the present stage.

        For whoever carries the messages: what is longer need not be read to its end.
        """
        fitting = [
            size for label, size in self._limits.items() if self._move(_NAMES[label]) is not None
        ]
        return max(fitting, default=0)

    def start(self) -> ServerStep:
        """R0: the signed offer for each site of the cohort."""
        return self._call("start")

    def close_stage(self) -> ServerStep:
        """End the present stage with who has answered, and begin the next one.

        Raises:     SessionAborted if too few answered or a dealer cheated; ``retry_allowed``
                    says whether another attempt at this round is safe.
        """
        return self._call("close_stage")

    def receive(self, peer: str, data: bytes | memoryview) -> ServerStep:
        """Take one message that the transport says is from ``peer``.

        Raises:     RemoteProtocolError: refused; the round goes on. SessionAborted: a complaint
                    proved a dealer guilty and ended the attempt, or this session is over.
        """
        self._guard()
        envelope, name = self._authenticate(peer, data)
        digest = envelope.digest()
        seen = self._seen.get((peer, name))
        if seen is not None:
            if seen == digest:
                return _ignored(peer, IgnoreReason.DUPLICATE)
            raise RemoteProtocolError(peer, Misbehaviour.EQUIVOCATION, name)
        move = self._move(name)
        if move is None:
            if _ORDER.index(_STAGE_OF[name]) < _ORDER.index(type(self._state)):
                return _ignored(peer, IgnoreReason.LATE)
            raise RemoteProtocolError(peer, Misbehaviour.UNEXPECTED_MESSAGE, name)
        expected, answered = self._expected()
        if peer not in expected or peer in answered or peer in self._excluded:
            raise RemoteProtocolError(peer, Misbehaviour.UNEXPECTED_MESSAGE, name)
        step: ServerStep
        try:
            kept = b"" if name == "MaskedInput" else bytes(data)
            state, step = move.handler(self._centre, self._state, envelope, kept)
        except RemoteProtocolError as error:
            proof = error.proof or Proof(
                culprit=peer,
                reason=error.reason,
                context=self._centre.context,
                messages=(kept,) if kept else (),
            )
            self._convict(proof)
            raise
        except SessionAborted as error:
            for proof in error.proofs:
                self._convict(proof)
            self._state = Aborted.by(error)
            raise
        self._seen[peer, name] = digest
        self._enter(state, move)
        return step

    def _convict(self, proof: Proof) -> None:
        self._excluded[proof.culprit] = proof.reason
        self._proofs.append(proof)

    def _call(self, name: str) -> ServerStep:
        self._guard()
        move = self._move(name)
        if move is None:
            raise LocalProtocolError(f"{name} is not possible in state {self.state}")
        return self._run(move)

    def _run(self, move: Move, *arguments: object) -> ServerStep:
        step: ServerStep
        try:
            state, step = move.handler(self._centre, self._state, *arguments)
        except SessionAborted as error:
            for proof in error.proofs:
                self._convict(proof)
            aborted = Aborted.by(error)
        except ProtocolError:
            raise
        except BaseException:
            # Out of memory half-way through an addition: the sum is lost, never go on from there.
            self.abort()
            raise
        else:
            self._enter(state, move)
            return step
        # Raised anew out here: the first error's traceback would keep rebuilt seeds alive.
        self._state = aborted
        raise aborted.error()

    def _authenticate(self, peer: str, data: bytes | memoryview) -> tuple[Envelope, str]:
        """The message, if ``peer`` is in the cohort and signed it for this very attempt."""
        envelope = Envelope.parse(data, peer=peer, max_size=max(self._limits.values()))
        if envelope.sender != peer or peer not in self._centre.points:
            raise RemoteProtocolError(peer, Misbehaviour.UNKNOWN_SENDER)
        name = _NAMES.get(envelope.label)
        if name is None:
            raise RemoteProtocolError(peer, Misbehaviour.MALFORMED, "unknown kind of message")
        if envelope.context != self._centre.context:
            raise RemoteProtocolError(peer, Misbehaviour.FOREIGN_CONTEXT, name)
        if not envelope.is_signed_by(self._centre.roster.key(peer) or b""):
            raise RemoteProtocolError(peer, Misbehaviour.BAD_SIGNATURE, name)
        check_attachment(self._centre.spec, envelope)
        return envelope, name

    def _expected(self) -> tuple[Iterable[str], Iterable[str]]:
        """Who is to answer in this stage, and who has."""
        match self._state:
            case Advertising(keys=keys):
                return self._centre.spec.cohort, keys
            case Sharing(dealing=dealing, dealt=dealt):
                return dealing.keys, dealt
            case Masking(dealt=dealt, answered=answered):
                return dealt, answered
            case Checking(survivors=survivors, signatures=signatures):
                return survivors, signatures
            case Unmasking(signers=signers, revealed=revealed):
                return signers, revealed
            case _:
                return (), ()


def _ignored(peer: str, reason: IgnoreReason) -> ServerStep:
    return ServerStep({}, (MessageIgnored(peer=peer, reason=reason),))
