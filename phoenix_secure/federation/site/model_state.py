"""The global model as a site computes it, and its refusal of every other one.

A site keeps the state after the newest round that it knows, and the one before. It goes on from a
state for one of two reasons: it computed it from its own state and the round's sum, or more than C
sites signed that it is right (``round/confirmation.py``). The server's word is never a reason.

- Offered is a round that starts from the newest state. An older one is refused.
- The newest round may be asked again, for its result can be lost: from the same state, and it must
  lead to the same next state.
- The model that a site trains from is made here, from its own state; the offer holds its hash.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.confirmation import ModelClaim
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import WireModel
from phoenix_secure.federation.run.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.offers import CatchUp, RoundOffer, state_from_bytes
from phoenix_secure.federation.secagg.sum_step import KnownState, SummedRound
from phoenix_secure.files import storage_errors
from protocol import Identity, Roster
from protocol.events import RoundFinished

__all__ = ["DiskStates", "MemoryStates", "SiteModel", "StateStore"]

_KEPT = 2
_log = logging.getLogger(__name__)


class StateStore(Protocol):
    """Keeps a site's newest states of one run, at most two."""

    def load(self) -> tuple[KnownState, ...]:
        """What is kept, oldest first; empty before the first sum."""
        ...

    def save(self, known: KnownState) -> None:
        """Keep ``known`` before this returns, as the newest."""
        ...


class MemoryStates:
    """For a simulation, whose sites start again from the state that its server resumes from."""

    def __init__(self, first: KnownState | None = None) -> None:
        self._kept: tuple[KnownState, ...] = ()
        if first is not None and first.round_number > 0:
            self._kept = (first,)

    def load(self) -> tuple[KnownState, ...]:
        return self._kept

    def save(self, known: KnownState) -> None:
        earlier = tuple(k for k in self._kept if k.round_number < known.round_number)
        self._kept = (*earlier, known)[-_KEPT:]


class DiskStates:
    """Files in a folder of one plan, in the format of checkpoints; each is written in one step."""

    def __init__(self, folder: Path, *, plan: bytes) -> None:
        self._folder = folder
        self._plan = plan.hex()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def load(self) -> tuple[KnownState, ...]:
        """What is kept.

        Raises:     CheckpointError for a damaged file, or one of another plan.
        """
        kept = []
        for _, path in list_checkpoints(self._folder)[-_KEPT:]:
            try:
                kept.append(KnownState.of(load_checkpoint(path, settings_hash=self._plan)))
            except CheckpointError as error:
                raise CheckpointError(
                    f"the model state {path} is damaged or of another plan: delete it, and the "
                    "site takes the state that other sites have signed"
                ) from error
        return tuple(kept)

    def save(self, known: KnownState) -> None:
        for number, path in list_checkpoints(self._folder):
            if number > known.round_number:
                path.unlink(missing_ok=True)
        save_checkpoint(known.state, self._folder, settings_hash=self._plan, keep=_KEPT)


class SiteModel:
    """One site's model in one run.

    num_colluders   C, sites of the roster that may work with the server
    epoch           reads the roster in force; None where it does not change
    """

    def __init__(
        self,
        identity: Identity,
        *,
        roster: Roster,
        rule: ModelRule,
        store: StateStore,
        num_colluders: int,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        self._identity = identity
        self._roster = roster
        self._epoch = epoch or (lambda: RoundEpoch.fixed(roster))
        self._rule = rule
        self._store = store
        self._num_colluders = num_colluders
        self._kept = store.load()
        self._from: tuple[int, KnownState] | None = None  # training round under way, its start

    @property
    def newest(self) -> KnownState:
        """The newest state that this site knows."""
        return self._kept[-1] if self._kept else self._rule.start()

    def read(self, body: bytes) -> RoundOffer:
        """The offer in ``body``.

        Raises:     RemoteProtocolError naming the server.
        """
        return RoundOffer.from_bytes(
            body,
            max_sites=len(self._roster.members),
            packed_size=self._rule.step.packed_size,
            max_state=_state_limit(self._rule.start()),
        )

    def own_signature(self, offer: RoundOffer) -> int | None:
        """The round under whose model the offer holds a signature of this site itself, if any."""
        if offer.catch_up is None or offer.catch_up.own is None:
            return None
        certificate = offer.catch_up.own
        is_own = certificate.claim.plan == self._rule.plan and certificate.is_signed_by(
            self._identity.id, roster=self._roster
        )
        return certificate.claim.round_number if is_own else None

    def model_for(self, offer: RoundOffer, *, model_hash: bytes) -> WireModel:
        """The model to train from in the offered round, made from this site's own state.

        ``offer`` must be signed by the server; ``model_hash`` is what its announcement binds.

        Raises:     SiteFailure BEHIND where this site needs a newer state and got no proof of it;
                    ANOTHER_MODEL for every other model than its own.
        """
        base = self._base(offer)
        model = self._rule.model(base, round_number=offer.round_number)
        if not hmac.compare_digest(model.sha256, model_hash):
            raise self._refused(
                FailureCode.ANOTHER_MODEL,
                f"round {offer.round_number}: the offered model {model_hash.hex()[:16]} is not "
                f"the one that follows from the state after round {base.round_number}, "
                f"{model.sha256.hex()[:16]}",
            )
        self._from = offer.round_number, base
        return model

    def state_for(self, offer: RoundOffer) -> KnownState:
        """The state that ``offer`` starts from, as this site knows it or others have signed it.

        ``offer`` must be signed by the server.

        Raises:     SiteFailure BEHIND or ANOTHER_MODEL, as ``model_for``.
        """
        return self._base(offer)

    def confirm(self, round_number: int, summed: SummedRound, *, finished: RoundFinished) -> bytes:
        """Compute and keep the state after ``round_number``; the site's signature under it.

        ``finished`` is the result that the server signed.

        Raises:     SiteFailure ANOTHER_MODEL for a sum that is not that of the result, that no
                    honest sites can have entered, or that leads elsewhere than an earlier one.
        """
        refused = FailureCode.ANOTHER_MODEL
        if self._from is None or self._from[0] != round_number:
            raise self._refused(refused, f"round {round_number} was not trained here")
        if summed.digest != finished.sum_digest or summed.round_number != round_number:
            raise self._refused(refused, f"round {round_number}: not the sum of its result")
        if summed.num_sites != len(finished.survivors):
            raise self._refused(refused, f"round {round_number}: not over the sites that signed")
        base = self._from[1]
        try:
            after = self._rule.step.next(base, summed)
        except (ValueError, TrainingError) as error:
            raise self._refused(
                refused, f"round {round_number}: the sum leads to no model: {error}"
            ) from None
        known = self._kept[-1] if self._kept else None
        if known is not None and known.round_number >= round_number:
            if known.digest != after.digest:
                raise self._refused(refused, f"round {round_number} had another sum before")
        else:
            self._keep(after)
        claim = ModelClaim(
            plan=self._rule.plan,
            round_number=round_number,
            sum=finished.sum_digest,
            state=after.digest,
        )
        return claim.confirmed_by(self._identity, roster=self._roster).to_bytes()

    def _base(self, offer: RoundOffer) -> KnownState:
        """The state that the offered round starts from, as this site knows it."""
        number, newest = offer.round_number, self.newest
        if number == newest.round_number:
            before = self._before_newest()
            if before is not None and offer.base == before.round_number:
                return before
        if offer.base < newest.round_number or not offer.base < number:
            raise self._refused(
                FailureCode.ANOTHER_MODEL,
                f"round {number} from the state after round {offer.base}: this site has the one "
                f"after round {newest.round_number}",
            )
        if offer.base == newest.round_number:
            return newest
        if offer.catch_up is None:
            raise self._refused(
                FailureCode.BEHIND,
                f"round {number} starts after round {offer.base}, this site knows the state after "
                f"round {newest.round_number}, and nothing was sent to catch up",
            )
        caught_up = self._caught_up(newest, offer.catch_up, base=offer.base)
        self._keep(caught_up)
        _log.info(
            "%s takes the state after round %d, signed by %d sites",
            self._identity.id,
            offer.base,
            len(offer.catch_up.certificate.signatures),
        )
        return caught_up

    def _before_newest(self) -> KnownState | None:
        """The state from which the newest one was computed, where it is known."""
        if len(self._kept) > 1:
            return self._kept[-2]
        return self._rule.start() if self.newest.round_number == 1 else None

    def _caught_up(self, newest: KnownState, sent: CatchUp, *, base: int) -> KnownState:
        """The state after round ``base``, if enough sites signed it.

        Raises:     SiteFailure BEHIND.
        """
        certificate = sent.certificate
        objection = certificate.objection(
            plan=self._rule.plan,
            roster=self._roster,
            num_colluders=self._num_colluders,
            removed=self._epoch().removed,
        )
        if objection is None and certificate.claim.round_number != base:
            objection = f"the signatures are of round {certificate.claim.round_number}"
        if objection is not None:
            raise self._refused(FailureCode.BEHIND, f"the state after round {base}: {objection}")
        try:
            found = self._rebuilt(newest, sent)
        except (ValueError, TrainingError) as error:
            raise self._refused(
                FailureCode.BEHIND, f"the state after round {base} cannot be made: {error}"
            ) from None
        if found.round_number != base or found.digest != certificate.claim.state:
            raise self._refused(
                FailureCode.BEHIND, f"the state after round {base} is not the one that sites signed"
            )
        return found

    def _rebuilt(self, newest: KnownState, sent: CatchUp) -> KnownState:
        if not sent.sums:
            return KnownState.of(state_from_bytes(sent.state, like=self._rule.start().state))
        for summed in sent.sums:
            newest = self._rule.step.next(newest, summed)
        return newest

    def _keep(self, known: KnownState) -> None:
        """On the disk first: the signature under it leaves only afterwards."""
        self._store.save(known)
        earlier = tuple(k for k in self._kept if k.round_number < known.round_number)
        self._kept = (*earlier, known)[-_KEPT:]

    def _refused(self, code: FailureCode, why: str) -> SiteFailure:
        _log.warning("%s refused a model: %s", self._identity.id, why)
        return SiteFailure(code, why=why)


def _state_limit(start: KnownState) -> int:
    """Bytes of a state in wire form, at most."""
    state = start.state
    vectors = (state.parameters, state.ema, state.momentum, state.second_moment)
    return 4 * sum(vector.size for vector in vectors) + 1024
