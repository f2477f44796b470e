"""The site's permanent record of secure rounds: the file behind the protocol's counter.

The protocol counts its own rounds, and each is signed once. A training round may need several of
them: when a server crashes after the signatures, the same training round is summed again under a
higher protocol number. A site would then enter the same update twice, and two sums over different
survivors could be subtracted. So on top of the protocol's rule this record keeps, for each
training round, what was signed, and lets the site sign it again only for *the same model and the
same survivors*: that sum says nothing new. Between plans ``signed_models`` keeps the same promise.

A model is written down before the site trains on it, and a training round has one: a server that
could ask again with another model would choose among answers. A training that failed is written
down too: it stays failed for the round.

A restored backup of the file would forget promises: ``kept_files`` notices that.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix_secure.federation.site.signed_models import SignedModels
from phoenix_secure.journal import Journal, create_file, kind_codec
from protocol import SentInput

__all__ = ["SiteRecord", "TrainingCounter"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Signed:
    """The survivor set that a site signed in one training round; ``survivors`` by their digest."""

    round: int
    training_round: int
    model: str
    survivors: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent(SentInput):
    """An input, and the training round it was sent in."""

    training_round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    """The result of a round."""

    round: int
    transcript: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """The one model of a training round."""

    training_round: int
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failed:
    """A training round in which this site enters zeros."""

    training_round: int


_Record = _Signed | _Sent | _Result | _Begun | _Failed
_CODEC = kind_codec(
    {
        "signed": _Signed,
        "sent": _Sent,
        "result": _Result,
        "begun": _Begun,
        "failed": _Failed,
    }
)


class SiteRecord:
    """The file at ``path``. Every method is atomic over threads and processes.

    plan, others   names the plan among those of this site, whose signatures ``others`` knows; None
                   where a site has one plan in its life
    """

    def __init__(self, path: Path, *, plan: str = "", others: SignedModels | None = None) -> None:
        self._plan = plan
        self._others = others
        self._journal: Journal[_Record] = Journal(path, _CODEC, follow=self._follow)
        self._last_round = -1
        self._signed: dict[int, _Signed] = {}
        self._sent: dict[int, tuple[SentInput, ...]] = {}
        self._result: _Result | None = None
        self._models: dict[int, str] = {}
        self._failed: set[int] = set()

    @classmethod
    def create(cls, path: Path) -> SiteRecord:
        """A new site's empty record.

        Raises:     StorageError, also where there is one: a promise must not be overwritten.
        """
        create_file(path)
        return cls(path)

    @property
    def last_round(self) -> int:
        """The highest protocol round that was signed, -1 for none."""
        with self._journal.caught_up():
            return self._last_round

    @property
    def finished_round(self) -> int:
        """The training round of the newest result that this site saw, 0 for none."""
        with self._journal.caught_up():
            last = -1 if self._result is None else self._result.round
            signed = self._signed.values()
            return max((each.training_round for each in signed if each.round <= last), default=0)

    def allows(self, training_round: int, *, model_hash: bytes) -> bool:
        """Whether this site may still take part in ``training_round`` on this model.

        A later round than any that was signed, or one that was signed; never with a second model.
        """
        with self._journal.caught_up():
            return self._allows(training_round, model_hash)

    def begin(self, training_round: int, *, model_hash: bytes) -> bool:
        """Record the model about to be trained on; False where a promise forbids it."""
        with self._journal.caught_up():
            if not self._allows(training_round, model_hash):
                return False
            if training_round not in self._models:
                self._journal.append(_Begun(training_round=training_round, model=model_hash.hex()))
            return True

    def fail(self, training_round: int) -> None:
        """Record that this site enters zeros in ``training_round``; before it answers."""
        with self._journal.caught_up():
            if training_round not in self._failed:
                self._journal.append(_Failed(training_round=training_round))

    def has_failed(self, training_round: int) -> bool:
        """Whether this site enters zeros in ``training_round``."""
        with self._journal.caught_up():
            return training_round in self._failed

    def has_signed(self, training_round: int) -> bool:
        """Whether this site signed survivors in ``training_round``."""
        with self._journal.caught_up():
            return training_round in self._signed

    def has_sent(self, training_round: int) -> bool:
        """Whether an input left for ``training_round``, under whatever number."""
        with self._journal.caught_up():
            return training_round in self._sent

    def transcript_before(self, protocol_round: int) -> bytes | None:
        """The hash that an offer of ``protocol_round`` must name, if this site saw the last one."""
        with self._journal.caught_up():
            if self._result is None or self._result.round + 1 != protocol_round:
                return None
            return self._result.transcript

    def record_result(self, protocol_round: int, *, transcript: bytes) -> None:
        """Remember the outcome of a finished round."""
        with self._journal.caught_up():
            self._journal.append(_Result(round=protocol_round, transcript=transcript))

    def counter(
        self, training_round: int, *, model_hash: bytes, parameters: str = ""
    ) -> TrainingCounter:
        """The protocol's counter for sessions of one training round.

        ``parameters`` is ``signed_models.parameters_hash`` of the model.
        """
        return TrainingCounter(
            self, training_round=training_round, model_hash=model_hash, parameters=parameters
        )

    def sign(
        self,
        protocol_round: int,
        *,
        training_round: int,
        model_hash: bytes,
        survivors: tuple[str, ...],
        parameters: str = "",
    ) -> bool:
        """Record a signature about to be given; False where a promise forbids it."""
        digest = _digest(survivors)
        with self._journal.caught_up():
            if protocol_round <= self._last_round or not self._allows(training_round, model_hash):
                return False
            earlier = self._signed.get(training_round)
            if earlier is not None and earlier.survivors != digest:
                return False
            if self._others is not None and not self._others.sign(
                model=parameters, plan=self._plan, survivors=digest
            ):
                return False
            self._journal.append(
                _Signed(
                    round=protocol_round,
                    training_round=training_round,
                    model=model_hash.hex(),
                    survivors=digest,
                )
            )
            return True

    def send(self, training_round: int, *, sent: SentInput) -> tuple[SentInput, ...]:
        """Record an input about to be sent; returns the earlier ones of the training round."""
        with self._journal.caught_up():
            before = self._sent.get(training_round, ())
            self._journal.append(_Sent(training_round=training_round, **asdict(sent)))
            return before

    def _allows(self, training_round: int, model_hash: bytes) -> bool:
        signed = self._signed.get(training_round)
        known = self._models.get(training_round) if signed is None else signed.model
        if known not in (None, model_hash.hex()):
            return False
        return signed is not None or training_round > max(self._signed, default=0)

    def _follow(self, record: _Record) -> None:
        match record:
            case _Signed():
                self._last_round = max(self._last_round, record.round)
                self._signed[record.training_round] = record
            case _Sent(training_round=number):
                sent = SentInput(
                    context=record.context,
                    cohort=record.cohort,
                    quorum=record.quorum,
                    num_colluders=record.num_colluders,
                )
                self._sent[number] = (*self._sent.get(number, ()), sent)
            case _Result():
                self._result = record
            case _Begun():
                self._models.setdefault(record.training_round, record.model)
            case _Failed():
                self._failed.add(record.training_round)


class TrainingCounter:
    """The protocol's ``RoundCounter`` for the sessions of one training round."""

    def __init__(
        self, record: SiteRecord, *, training_round: int, model_hash: bytes, parameters: str
    ) -> None:
        self._record = record
        self._training_round = training_round
        self._model_hash = model_hash
        self._parameters = parameters

    def last_signed_round(self) -> int:
        """The highest protocol round recorded, -1 for none."""
        return self._record.last_round

    def record_signed_round(self, round_number: int, survivors: tuple[str, ...]) -> bool:
        """Record the signature; False for an old round, or other survivors than signed before."""
        return self._record.sign(
            round_number,
            training_round=self._training_round,
            model_hash=self._model_hash,
            survivors=survivors,
            parameters=self._parameters,
        )

    def record_sent_input(self, round_number: int, sent: SentInput) -> tuple[SentInput, ...]:
        """Record the input; earlier ones of the same *training* round count, whatever number."""
        return self._record.send(self._training_round, sent=sent)


def _digest(survivors: tuple[str, ...]) -> str:
    # Ids are 1 to 64 ASCII characters without spaces or control characters: no ambiguity.
    return hashlib.sha256("\n".join(survivors).encode()).hexdigest()
