"""One site's side of one attempt at one round: bytes in, bytes and events out.

Rules that hold in every state:
- A message that is not signed by the pinned server key, or belongs to another attempt, is refused
  and changes nothing: anybody on the network can send such a message.
- A signed message that breaks the protocol ends the session: the server has lied.
- The vector is masked before it leaves; at most one survivor set is signed per round; at most one
  share per dealer is revealed. What a state does not need any more is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocol.client_rounds import finish, mask_input, reveal_shares, sign_survivors
from protocol.client_setup import (
    ClientStep,
    advertise_keys,
    consider_offer,
    deal_shares,
    take_input,
)
from protocol.client_states import (
    Announced,
    Finished,
    Idle,
    Masked,
    Offered,
    Ready,
    Shared,
    Signed,
    Site,
    Unmasked,
)
from protocol.counter import RoundCounter
from protocol.entropy import Entropy, os_entropy
from protocol.errors import (
    AbortReason,
    LocalProtocolError,
    Misbehaviour,
    RemoteProtocolError,
    SessionAborted,
)
from protocol.events import IgnoreReason, MessageIgnored
from protocol.identity import SERVER, Identity
from protocol.messages import (
    Envelope,
    KeyDirectory,
    RoundAnnouncement,
    RoundResult,
    ShareDelivery,
    SignatureQuorum,
    SurvivorList,
)
from protocol.policy import ClientPolicy
from protocol.roster import Roster
from protocol.session import Aborted, Move, Session, State
from protocol.suite import Suite

__all__ = ["CLIENT_TABLE", "ClientSession", "ClientStep"]

# Every legal pair of state and message (or call); all else is an error.
CLIENT_TABLE: Final[dict[tuple[type[State], str], Move]] = {
    (Idle, "RoundAnnouncement"): Move(handler=consider_offer, to=(Offered,)),
    (Offered, "accept_model"): Move(handler=advertise_keys, to=(Announced,)),
    (Announced, "provide_input"): Move(handler=take_input, to=(Ready,)),
    (Ready, "KeyDirectory"): Move(handler=deal_shares, to=(Shared,)),
    (Shared, "ShareDelivery"): Move(handler=mask_input, to=(Masked, Aborted)),
    (Masked, "SurvivorList"): Move(handler=sign_survivors, to=(Signed,)),
    (Signed, "SignatureQuorum"): Move(handler=reveal_shares, to=(Unmasked,)),
    (Signed, "RoundResult"): Move(handler=finish, to=(Finished,)),
    (Unmasked, "RoundResult"): Move(handler=finish, to=(Finished,)),
}

_NAMES: Final = {
    kind.LABEL: kind.__name__
    for kind in (
        RoundAnnouncement,
        KeyDirectory,
        ShareDelivery,
        SurvivorList,
        SignatureQuorum,
        RoundResult,
    )
}
# The largest message to a site is a key or share list, so many bytes per member.
_MAX_OFFER_SIZE: Final = 1 << 22
_MAX_MEMBER_SIZES: Final = {Suite.CLASSICAL: 640, Suite.HYBRID_PQ: 12_288}


class ClientSession(Session):
    """One attempt at one round; make a new session for the next attempt.

    ``previous`` is the transcript hash of the last finished round, if this site saw its result.
    ``num_threads`` serves the mask arithmetic only. A session is not thread-safe.
    """

    __slots__ = ("_seen", "_site")

    def __init__(
        self,
        identity: Identity,
        *,
        roster: Roster,
        policy: ClientPolicy,
        counter: RoundCounter,
        previous: bytes | None = None,
        entropy: Entropy = os_entropy,
        num_threads: int = 1,
    ) -> None:
        super().__init__(Idle(), table=CLIENT_TABLE)
        self._site = Site(
            identity=identity,
            roster=roster,
            policy=policy,
            counter=counter,
            previous=previous,
            entropy=entropy,
            num_threads=num_threads,
        )
        self._seen: dict[str, bytes] = {}

    def accept_model(self, model: bytes | memoryview | Sequence[bytes | memoryview]) -> ClientStep:
        """The exact bytes of the model to train on; answers the offer with this site's keys.

        They may come in parts (a list or tuple), which are not joined.

        Raises:     RemoteProtocolError(WRONG_MODEL) if they are not the announced ones; the
                    session is unchanged, so they can be fetched again.
        """
        return self._call("accept_model", model)

    def provide_input(
        self,
        words: npt.NDArray[Any],
        *,
        extra: Sequence[int] = (),
        noise: npt.NDArray[np.int64] | None = None,
    ) -> ClientStep:
        """The vector to be summed; needed before the key directory is received.

        Shape:      ``words`` (num_words,) signed integers within +-ceil(scale * clip), as from
                    ``FixedPoint.encode``; ``extra`` one integer per ``extra_bounds``; ``noise``
                    (num_words,) int64, exactly when noise_variance > 0. All are copied,
                    but for int32 words that nobody can write to.
        Raises:     LocalProtocolError naming the argument; nothing was kept.
        """
        return self._call("provide_input", words, extra, noise)

    def receive(self, data: bytes | memoryview) -> ClientStep:
        """Take one message from the server.

        Raises:     RemoteProtocolError: refused, session unchanged. SessionAborted: the server
                    lied or this session is over. LocalProtocolError: the driver must call
                    ``accept_model`` or ``provide_input`` first; session unchanged.
        """
        self._guard()
        envelope, name = self._authenticate(data)
        digest = envelope.digest()
        if name in self._seen:
            if self._seen[name] == digest:
                ignored = MessageIgnored(peer=SERVER, reason=IgnoreReason.DUPLICATE)
                return ClientStep(b"", (ignored,))
            error = RemoteProtocolError(SERVER, Misbehaviour.EQUIVOCATION, name)
            if self.is_over:
                raise error
            self._state = _blame(error)
            raise self._state.error()
        move = self._move(name)
        if move is None:
            if isinstance(self._state, Announced) and name == "KeyDirectory":
                raise LocalProtocolError("call provide_input before receiving the key directory")
            raise RemoteProtocolError(SERVER, Misbehaviour.UNEXPECTED_MESSAGE, name)
        step = self._run(move, envelope)
        self._seen[name] = digest
        return step

    def _call(self, name: str, *arguments: Any) -> ClientStep:
        self._guard()
        move = self._move(name)
        if move is None:
            raise LocalProtocolError(f"{name} is not possible in state {self.state}")
        return self._run(move, *arguments)

    def _run(self, move: Move, *arguments: Any) -> ClientStep:
        step: ClientStep
        try:
            state, step = move.handler(self._site, self._state, *arguments)
        except RemoteProtocolError as error:
            # An offer or a model that is refused leaves the site free to get a better one.
            if isinstance(self._state, (Idle, Offered)):
                raise
            aborted = _blame(error)
        except SessionAborted as error:
            aborted = Aborted.by(error)
        except LocalProtocolError:
            raise
        except BaseException:
            # Out of memory or disk, half-way through masking: never go on from there.
            self.abort()
            raise
        else:
            self._enter(state, move)
            return step
        # Raised anew out here: the first error's traceback would keep keys and seeds alive.
        self._state = aborted
        raise aborted.error()

    def _authenticate(self, data: bytes | memoryview) -> tuple[Envelope, str]:
        """The message, if the pinned server signed it for this very attempt."""
        spec = getattr(self._state, "spec", None)
        context = getattr(self._state, "context", None)
        limit = _MAX_OFFER_SIZE
        if spec is not None:
            limit = max(limit, _MAX_MEMBER_SIZES[spec.suite] * len(spec.cohort))
        envelope = Envelope.parse(data, peer=SERVER, max_size=limit)
        if envelope.attachment:
            raise RemoteProtocolError(SERVER, Misbehaviour.MALFORMED, "attachment")
        if envelope.sender != SERVER:
            raise RemoteProtocolError(SERVER, Misbehaviour.UNKNOWN_SENDER, envelope.sender)
        name = _NAMES.get(envelope.label)
        if name is None:
            raise RemoteProtocolError(SERVER, Misbehaviour.MALFORMED, "unknown kind of message")
        if context is not None and envelope.context != context:
            raise RemoteProtocolError(SERVER, Misbehaviour.FOREIGN_CONTEXT, name)
        if not envelope.is_signed_by(self._site.roster.server_key):
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_SIGNATURE, name)
        return envelope, name


def _blame(error: RemoteProtocolError) -> Aborted:
    """The end of a session because of a signed message that breaks the protocol."""
    return Aborted(
        reason=AbortReason.SERVER_MISBEHAVED,
        detail=f"{error.reason.value}: {error.detail}" if error.detail else error.reason.value,
        culprits=(error.peer,),
        retry_allowed=False,
    )
