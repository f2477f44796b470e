"""A site's side of secure rounds: one session for each attempt, one answer for each stage.

- A request that comes again gets the same bytes; a different one for the same stage is refused.
- A session lives in memory alone. A site that was restarted is a dropout of that attempt, and
  never masks a second input for it.
- One model for each training round is on the disk before the site trains on it; another one is
  refused, signed or not.
- Each attempt has the roster in force when it was offered. Keys of a site that is removed from it
  are taken from nobody, so that no sum that this site signs is over it.
- No answer before the sum depends on the images (``site_input``).
- The update is kept until the result is out, so that another attempt needs no training.
- Under differential privacy an event is in the site's ledger before a masked input leaves.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import (
    MalformedMessage,
    SecureTrainRequest,
    TrainRequest,
    WireModel,
)
from phoenix_secure.federation.secagg.offers import BroadcastSum, RoundOffer
from phoenix_secure.federation.secagg.payload import Payload
from phoenix_secure.federation.secagg.sum_step import SummedRound
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.site.exclusions import Note
from phoenix_secure.federation.site.kept_files import FORGOTTEN
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.releases import Releases
from phoenix_secure.federation.site.residuals import Residuals
from phoenix_secure.federation.site.site_input import SiteInput, Train
from protocol import (
    SERVER,
    ClientSession,
    ClientStep,
    Identity,
    Misbehaviour,
    ProtocolError,
    RemoteProtocolError,
    Roster,
    RoundSpec,
)
from protocol.entropy import Entropy, os_entropy
from protocol.events import AttemptEnded, RoundFinished
from protocol.messages import Envelope, KeyDirectory, RoundAnnouncement

__all__ = ["BoundModel", "SecureSite"]

_log = logging.getLogger(__name__)
_STAGES = ("announce", "share", "mask", "check", "unmask", "result")
_MAX_ANNOUNCEMENT = 1 << 22


@dataclass(kw_only=True, slots=True, repr=False)
class _Attempt:
    """The one attempt that this site is in."""

    number: tuple[int, int]  # protocol round, attempt
    training_round: int
    model_hash: bytes
    session: ClientSession
    epoch: RoundEpoch
    answers: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # stage -> request, reply


class BoundModel(Protocol):
    """What a sum is bound to, as this site knows it (``SiteModel``)."""

    def read(self, body: bytes) -> RoundOffer: ...

    def own_signature(self, offer: RoundOffer) -> int | None: ...

    def model_for(self, offer: RoundOffer, *, model_hash: bytes) -> WireModel: ...

    def confirm(
        self, round_number: int, summed: SummedRound, *, finished: RoundFinished
    ) -> bytes: ...


class SecureSite:
    """Everything that a site needs for secure rounds except its images.

    terms          this site's own terms, from its own settings
    rounding_key   32 bytes for the stochastic rounding of a training round
    releases       the site's privacy ledger and budget; None without differential privacy
    noise_entropy  secret bytes for a round's noise under privacy unit ``site``
    residuals      what rounding left out of earlier answers; None without error feedback
    note           writes to the site's own log
    model_size     parameters of the models that the server sends; None: any number
    local_steps    of a round, where they are public
    model          the model as this site computes it; None where the server sends one
    epoch          reads the roster in force; None where it does not change
    """

    def __init__(
        self,
        identity: Identity,
        *,
        roster: Roster,
        terms: SecureTerms,
        record: SiteRecord,
        max_rounds: int,
        rounding_key: Callable[[int], bytes],
        entropy: Entropy = os_entropy,
        num_threads: int = 1,
        releases: Releases | None = None,
        noise_entropy: Callable[[int], Entropy] = lambda round_number: os_entropy,
        residuals: Residuals | None = None,
        note: Note = lambda event, **facts: None,
        model_size: int | None = None,
        local_steps: int = 1,
        model: BoundModel | None = None,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        self._identity = identity
        self._roster = roster
        self._terms = terms
        self._epoch = epoch or (lambda: RoundEpoch.fixed(roster))
        self._record = record
        self._max_rounds = max_rounds
        self._entropy = entropy
        self._num_threads = num_threads
        self._releases = releases
        self._note = note
        self._model_size = model_size
        self._input = SiteInput(
            site=identity.id,
            terms=terms,
            record=record,
            rounding_key=rounding_key,
            noise_entropy=noise_entropy,
            residuals=residuals,
            local_steps=local_steps,
            num_threads=num_threads,
            note=note,
        )
        self._model = model
        self._attempt: _Attempt | None = None
        self._kept: tuple[bytes, Payload] | None = None
        self._forgot = ""  # what this site signed and does not remember: it promises nothing more
        # A late training and the next attempt's offer may meet: one after the other.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SecureSite {self._identity.id}>"

    def handle(self, stage: str, body: bytes, *, train: Train) -> bytes:
        """Answer one stage.

        Raises:     SiteFailure with the code that the server may see; Cancelled from ``train``.
        """
        if stage not in _STAGES:
            raise self._refused(stage[:64], "not a stage of secure rounds")
        digest = hashlib.sha256(body).digest()
        with self._lock:
            known = self._attempt.answers.get(stage) if self._attempt else None
            if known is not None and known[0] == digest:
                return known[1]
            try:
                if stage == "announce":
                    return self._announce(body, digest, train)
                return self._answer(stage, body, digest)
            except MalformedMessage as error:
                raise SiteFailure(FailureCode.MALFORMED, why=str(error)) from None
            except ProtocolError as error:
                # Protocol errors name what was wrong and never hold a secret.
                raise self._refused(stage, str(error)) from None

    def settle(self) -> None:
        """Delete a noised answer whose result this site has seen, and the server holds safely."""
        if self._releases is not None:
            self._releases.settle(self._record.finished_round)

    def _announce(self, body: bytes, digest: bytes, train: Train) -> bytes:
        """R0 and the training: keys are drawn first, and shown after the training."""
        if self._forgot:
            raise self._refused("announce", self._forgot)
        announcement, model_of = self._opened(body)
        spec = _peek(announcement)
        number = (spec.round, spec.attempt)
        if self._attempt is not None and number <= self._attempt.number:
            raise self._refused("announce", f"an attempt {number} that is not new")
        model = model_of(spec)
        model_hash, request = model.sha256, model.request
        training_round = request.round_number
        if request.clip_factor != 1.0 and self._terms.clip_bit_value == 0:
            raise self._refused("announce", "a clip factor that was not agreed")
        if not 1 <= training_round <= self._max_rounds:
            raise self._refused("announce", f"training round {training_round}")
        if not self._record.allows(training_round, model_hash=model_hash):
            raise self._refused("announce", _not_promised(training_round))
        if self._model_size not in (None, request.parameters.size):
            raise MalformedMessage(f"expected a model of {self._model_size} parameters")
        epoch = self._epoch()
        if spec.roster_hash != epoch.roster.hash:
            raise self._refused(
                "announce",
                f"an offer of another roster than the one in force, epoch {epoch.number}",
            )
        counter = self._record.counter(
            training_round,
            model_hash=model_hash,
            parameters=model.parameters_sha256,
        )
        session = ClientSession(
            self._identity,
            roster=epoch.roster,
            policy=self._terms.policy(epoch.roster),
            counter=counter,
            previous=self._record.transcript_before(spec.round),
            entropy=self._entropy,
            num_threads=self._num_threads,
        )
        session.receive(announcement)
        if spec.cohort != self._drawn(training_round):
            raise self._refused("announce", "a cohort that is not the one drawn for the round")
        advertisement = session.accept_model(model.parts).outbound
        # From here on the server is known to have signed the offer.
        if not self._record.begin(training_round, model_hash=model_hash):
            raise self._refused("announce", _not_promised(training_round))
        if self._attempt is not None:
            self._attempt.session.abort()
            self._attempt = None
        payload = self._payload(request, model_hash, train)
        session.provide_input(payload.words, extra=payload.extra, noise=payload.noise)
        self._attempt = _Attempt(
            number=number,
            training_round=training_round,
            model_hash=model_hash,
            session=session,
            epoch=epoch,
            answers={"announce": (digest, advertisement)},
        )
        return advertisement

    def _opened(self, body: bytes) -> tuple[bytes, Callable[[RoundSpec], WireModel]]:
        """The announcement in an offer, and where its model comes from."""
        if self._model is None:
            sent = SecureTrainRequest.from_bytes(body)
            return sent.announcement, lambda spec: WireModel.received(sent.model)
        offered = self._model.read(body)
        return offered.announcement, lambda spec: self._computed(offered, spec)

    def _computed(self, offered: RoundOffer, spec: RoundSpec) -> WireModel:
        """The model as this site computes it.

        Raises:     SiteFailure where it is not the offered one.
        """
        announcement = Envelope.parse(offered.announcement, peer=SERVER, max_size=_MAX_ANNOUNCEMENT)
        # Else anybody on the network could make this site compute and keep states.
        if self._model is None or not announcement.is_signed_by(self._roster.server_key):
            raise RemoteProtocolError(SERVER, Misbehaviour.BAD_SIGNATURE, "announcement")
        signed = self._model.own_signature(offered)
        if signed is not None and not self._record.has_signed(signed):
            self._forgot = (
                f"this site signed round {signed}, and its file in rounds does not say so"
            )
            self._note(FORGOTTEN, round=signed, why=self._forgot)
            raise self._refused("announce", self._forgot)
        return self._model.model_for(offered, model_hash=spec.model_hash)

    def _drawn(self, training_round: int) -> tuple[str, ...]:
        """The cohort as this site draws it; whoever is left out of it stays in, and is absent."""
        members = tuple(id for id, _ in self._roster.members)
        return self._terms.draw.cohort(members, training_round)

    def _payload(self, request: TrainRequest, model_hash: bytes, train: Train) -> Payload:
        """What this site enters, the same in every attempt at the round.

        Under differential privacy also after a restart: it is read from the disk, and the noise is
        not drawn a second time.
        """

        if self._kept is None or self._kept[0] != model_hash:
            self._kept = None
            if self._releases is None:
                self._kept = model_hash, self._input.make(request, train=train)
            else:
                body = self._releases.prepare(
                    request.round_number,
                    model_hash=model_hash,
                    make=lambda: self._input.make(request, train=train).to_bytes(),
                )
                largest = self._terms.fixed_point.max_integer
                self._kept = model_hash, Payload.from_bytes(body, max_word=largest)
        return self._kept[1]

    def _answer(self, stage: str, body: bytes, digest: bytes) -> bytes:
        attempt = self._attempt
        if attempt is None:
            raise self._refused(stage, "no attempt under way (was this site restarted?)")
        if stage in attempt.answers:
            raise self._refused(stage, "a second, different request")
        if stage == "mask" and self._releases is not None:
            # The masked input is what leaves: its privacy event is on the disk before it.
            self._releases.charge(attempt.training_round, model_hash=attempt.model_hash)
        if stage == "result" and self._model is not None:
            broadcast = BroadcastSum.from_bytes(body, packed_size=self._terms.masked_bytes)
            step = self._receive(attempt, broadcast.result)
        else:
            broadcast, step = None, self._receive(attempt, body)
        reply = step.outbound
        for event in step.events:
            if isinstance(event, RoundFinished):
                if self._model is not None and broadcast is not None:
                    reply = self._model.confirm(
                        attempt.training_round, broadcast.summed, finished=event
                    )
                self._record.record_result(attempt.number[0], transcript=event.transcript_hash)
                self._kept = None
            if isinstance(event, AttemptEnded):
                why = f"{event.culprit} dealt a share that does not fit what it signed"
                self._note("complained", site=event.culprit, why=why)
        attempt.answers[stage] = digest, reply
        return reply

    def _receive(self, attempt: _Attempt, message: bytes) -> ClientStep:
        """Give the session a message, unless it brings the keys of a removed site.

        Later members of the attempt are among those whose keys were in it (``protocol``).
        """
        removed, roster = attempt.epoch.removed, attempt.epoch.roster
        if removed:
            envelope = Envelope.parse(message, peer=SERVER, max_size=len(message))
            if envelope.label == KeyDirectory.LABEL:
                for site in _senders(envelope, roster):
                    if site in removed:
                        raise self._refused("share", f"keys of {site}, {removed[site]}")
        return attempt.session.receive(message)

    def _refused(self, stage: str, what: str) -> SiteFailure:
        _log.warning("%s refused %s: %s", self._identity.id, stage, what)
        return SiteFailure(FailureCode.REFUSED, why=what)


def _not_promised(training_round: int) -> str:
    return f"training round {training_round}, which is past, or which has another model here"


def _senders(envelope: Envelope, roster: Roster) -> list[str]:
    """Whose keys a directory holds, not yet to be believed."""
    directory = KeyDirectory.decode(
        envelope.body, peer=SERVER, max_members=len(roster.members), suite=roster.suite
    )
    return [
        Envelope.parse(each, peer=SERVER, max_size=len(each)).sender
        for each in directory.advertisements
    ]


def _peek(announcement: bytes) -> RoundSpec:
    """The offered specification, not yet to be believed: the session checks who signed it."""
    envelope = Envelope.parse(announcement, peer=SERVER, max_size=_MAX_ANNOUNCEMENT)
    if envelope.label != RoundAnnouncement.LABEL:
        raise MalformedMessage("expected an announcement")
    return RoundAnnouncement.decode(envelope.body, peer=SERVER).spec
