"""The server's side of a model that every site computes from the sums.

The server takes the same step from the same sum as the sites (``secagg/sum_step.py``), asks them to
sign the state that they computed, and goes on once more than C of them signed its own. It knows
which state each site has, and sends to a site that was away what it needs to catch up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.round.confirmation import (
    Certificate,
    Confirmation,
    ModelClaim,
    num_signers,
)
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.offers import (
    BroadcastSum,
    CatchUp,
    RoundOffer,
    state_to_bytes,
)
from phoenix_secure.federation.secagg.sum_step import KnownState, SummedRound
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.sums import KeptSum, KeptSums
from protocol import Misbehaviour, RemoteProtocolError, Roster
from protocol.events import RoundCompleted

__all__ = ["ComputedModel", "ModelChain", "last_summed"]

_log = logging.getLogger(__name__)


def last_summed(state: ServerState, *, given_up: Iterable[int]) -> ServerState:
    """``state`` as it was after the newest round that was summed; one given up moves nothing."""
    skipped, summed = set(given_up), state.round_number
    while summed in skipped:
        summed -= 1
    return replace(state, round_number=summed)


class ModelChain:
    """States and sums of one run, from ``state`` on.

    base     the state after the newest round that was summed
    holding  sites that have ``base`` and forget with this process whatever comes after; None where
             sites keep states on their own disks
    epoch    the roster in force, whose removed sites vouch for nothing; None: it does not change
    """

    def __init__(
        self,
        state: ServerState,
        *,
        rule: ModelRule,
        roster: Roster,
        sums: KeptSums,
        journal: SecureJournal,
        holding: Iterable[str] | None = None,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        self.rule = rule
        self.roster = roster
        self._epoch = epoch or (lambda: RoundEpoch.fixed(roster))
        self._sums = sums
        self._journal = journal
        self.base = KnownState.of(last_summed(state, given_up=journal.given_up))
        summed = self.base.round_number
        kept = sums.load(summed)
        self._certificate: Certificate | None = None
        if kept is not None and kept.certificate.claim.state == self.base.digest:
            self._certificate = kept.certificate
        self._sites_forget = holding is not None
        if holding is None:
            signers = () if self._certificate is None else self._certificate.signatures
            members = (site for site, _ in roster.members)
            holding = members if summed == 0 else (site for site, _ in signers)
        self._holds: dict[str, int] = dict.fromkeys(holding, summed)

    def kept(self, round_number: int) -> KeptSum | None:
        """The sum of a round whose model was confirmed before this server was started again."""
        kept = self._sums.load(round_number)
        if kept is None or kept.summed.round_number <= self.base.round_number:
            return None
        after = self.rule.step.next(self.base, kept.summed)
        return kept if after.digest == kept.certificate.claim.state else None

    def finish(self, kept: KeptSum) -> ServerState:
        """Keep a confirmed sum, and go on to the state that its sites signed."""
        self._sums.save(kept)
        return self._advance(kept, signers_have_it=True)

    def repeat(self, kept: KeptSum) -> ServerState:
        """Go on to the state of a sum that was confirmed before this server was started again."""
        return self._advance(kept, signers_have_it=not self._sites_forget)

    def _advance(self, kept: KeptSum, *, signers_have_it: bool) -> ServerState:
        self.base = self.rule.step.next(self.base, kept.summed)
        self._certificate = kept.certificate
        if signers_have_it:
            signers = (site for site, _ in kept.certificate.signatures)
            self._holds |= dict.fromkeys(signers, self.base.round_number)
        return self.base.state

    def has(self, site: str, *, is_known: bool) -> None:
        """Note that ``site`` has ``base``, or that nobody knows what it has."""
        if is_known:
            self._holds[site] = self.base.round_number
        else:
            self._holds.pop(site, None)

    def catch_up(self, site: str) -> CatchUp | None:
        """What ``site`` needs to get to ``base``: the shorter of sums and state."""
        held, base = self._holds.get(site), self.base
        if held == base.round_number or self._certificate is None:
            return None
        sums = self._sums_since(held)
        certificate = self._certificate.without(self._epoch().removed)
        if sums is not None:
            return CatchUp(certificate=certificate, sums=sums)
        return CatchUp(
            certificate=certificate,
            state=state_to_bytes(base.state),
            own=self._signed_by(site) if held is None else None,
        )

    def _signed_by(self, site: str) -> Certificate | None:
        """What ``site`` signed last, of the sums that are kept: it may have lost its memory."""
        for number in reversed(self._sums.rounds()):
            kept = self._sums.load(number)
            own = None if kept is None else kept.certificate.only(site)
            if own is not None:
                return own
        return None

    def _sums_since(self, held: int | None) -> tuple[SummedRound, ...] | None:
        """The sums after round ``held``, where all are kept and shorter than the state."""
        if held is None:
            return None
        base = self.base.state
        given_up = self._journal.given_up
        rounds = [r for r in range(held + 1, base.round_number + 1) if r not in given_up]
        vectors = (base.parameters, base.ema, base.momentum, base.second_moment)
        if len(rounds) * self.rule.step.packed_size > 4 * sum(v.size for v in vectors):
            return None
        kept = [self._sums.load(number) for number in rounds]
        found = tuple(each.summed for each in kept if each is not None)
        return found if len(found) == len(rounds) else None


class ComputedModel:
    """One attempt at ``round_number`` of ``chain`` (a ``server.broadcast.Broadcast``)."""

    def __init__(self, chain: ModelChain, *, round_number: int, protocol_round: int) -> None:
        self._chain = chain
        self._round_number = round_number
        self._protocol_round = protocol_round
        self._summed: SummedRound | None = None
        self._after: KnownState | None = None
        self._signatures: dict[str, bytes] = {}

    def offers(self, announcement: bytes, *, asked: tuple[str, ...]) -> dict[str, bytes]:
        """For each site the offer, and what it needs to catch up; equal bodies are one object."""
        bodies: dict[bytes, bytes] = {}
        offers = {}
        for site in asked:
            offer = RoundOffer(
                announcement=announcement,
                round_number=self._round_number,
                base=self._chain.base.round_number,
                catch_up=self._chain.catch_up(site),
            )
            body = offer.to_bytes()
            offers[site] = bodies.setdefault(body, body)
        return offers

    def heard(self, site: str, failure: str | None) -> None:
        if failure is None:
            self._chain.has(site, is_known=True)
        elif failure in (FailureCode.BEHIND, FailureCode.ANOTHER_MODEL):
            _log.warning("%s answers %s: it is sent the whole state next", site, failure)
            self._chain.has(site, is_known=False)

    def results(self, completed: RoundCompleted, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        """The sum beside each message; none where no model follows from it."""
        step = self._chain.rule.step
        self._summed = SummedRound.of(completed, round_number=self._round_number, terms=step.terms)
        try:
            self._after = step.next(self._chain.base, self._summed)
        except (ValueError, TrainingError):
            return {}  # who decodes the sum, or takes the step, says why
        bodies: dict[bytes, bytes] = {}
        for message in messages.values():
            if message not in bodies:
                broadcast = BroadcastSum(result=message, summed=self._summed)
                bodies[message] = broadcast.to_bytes()
        return {site: bodies[message] for site, message in messages.items()}

    def confirmed(self, site: str, reply: bytes) -> None:
        """Take a signature, if it is under the server's own state."""
        if self._summed is None or self._after is None:
            raise AssertionError("asked for no confirmation")
        confirmation = Confirmation.from_bytes(
            reply,
            site=site,
            plan=self._chain.rule.plan,
            round_number=self._round_number,
            sum_digest=self._summed.digest,
        )
        if not confirmation.is_valid(self._chain.roster):
            raise RemoteProtocolError(site, Misbehaviour.BAD_SIGNATURE, "confirmation")
        if confirmation.claim.state != self._after.digest:
            raise RemoteProtocolError(site, Misbehaviour.WRONG_MODEL, "computed another state")
        self._signatures[site] = confirmation.signature

    def missing(self) -> int:
        if self._after is None:
            return 0
        needed = num_signers(self._chain.rule.step.terms.num_colluders)
        return max(0, needed - len(self._signatures))

    def finish(
        self, completed: RoundCompleted, *, bytes_down: int, bytes_up: int
    ) -> ServerState | None:
        """Keep the sum with its certificate, and go on to the next state."""
        if self._summed is None or self._after is None:
            return None
        claim = ModelClaim(
            plan=self._chain.rule.plan,
            round_number=self._round_number,
            sum=self._summed.digest,
            state=self._after.digest,
        )
        kept = KeptSum(
            summed=self._summed,
            survivors=completed.survivors,
            certificate=Certificate(
                claim=claim, signatures=tuple(sorted(self._signatures.items()))
            ),
            protocol_round=self._protocol_round,
            transcript=completed.transcript_hash,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
        )
        return self._chain.finish(kept)
