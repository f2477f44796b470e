"""An aggregator whose every round is in the evidence: started before it asks, summed before the
model moves, witnessed by the sites.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from phoenix_secure.errors import PhoenixError
from phoenix_secure.evidence import Event
from phoenix_secure.evidence.witness import ShownHead, WitnessReply
from phoenix_secure.federation.engines.exchange import Engine, Failure
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator, Stages
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.stages import WITNESS_STAGE
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from protocol import Identity, Roster

__all__ = ["RecordedAggregator", "Witnesses"]

_DEADLINE_S = 60.0
_GRACE_S = 5.0


class RecordedAggregator:
    """``inner``, with an entry before and after."""

    def __init__(
        self,
        inner: Aggregator,
        evidence: RunEvidence,
        *,
        privacy: PrivacyPlan | None = None,
    ) -> None:
        self._inner = inner
        self._evidence = evidence
        self._privacy = privacy

    def members(self) -> tuple[str, ...]:
        """The members of ``inner``."""
        return self._inner.members()

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """The round's sum, recorded before anybody can use it.

        Raises:     what ``inner`` raises, after an entry that says so.
        """
        round_number = request.round_number
        self._evidence.round_started(round_number, cohort=cohort)
        if self._privacy is not None:
            self._evidence.charged(round_number, sites=cohort, event=self._privacy.event)
        try:
            found = yield from self._inner.aggregate(request, cohort=cohort)
        except PhoenixError as error:
            self._evidence.failed(round_number, kind=type(error).__name__)
            raise
        ledger = self._evidence.ledger
        for site, code in sorted(found.failures.items()):
            ledger.append(Event.DROPOUT, round=round_number, site=site, code=code)
        ledger.append(Event.AGGREGATED, round=round_number, **_facts(found))
        return found


def _facts(found: Aggregate) -> dict[str, Any]:
    if found.secure is None:
        return {"secure": False, "sites": list(found.sites)}
    return {"secure": True, "sites": list(found.sites), **found.secure.evidence}


class Witnesses:
    """Shows the newest head to the sites and records who signed it.

    epoch   the roster in force, whose removed sites are not asked; None where it does not change
    """

    def __init__(
        self,
        evidence: RunEvidence,
        *,
        identity: Identity,
        roster: Roster,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        self._evidence = evidence
        self._identity = identity
        self._roster = roster
        self._epoch = epoch or (lambda: RoundEpoch.fixed(roster))
        self._seen: dict[str, int] = {}  # what each site keeps, as far as it told

    def ask(self, engine: Engine) -> dict[str, bytes]:
        """The signatures of the sites that answered; the ledger holds them from then on.

        A site that does not answer is left out: the run goes on, and the report says who signed.
        """
        signed: dict[str, bytes] = {}
        refused: dict[str, str] = {}
        head = self._evidence.ledger.head
        removed = self._epoch().removed
        waiting = tuple(
            site
            for site in engine.sites
            if self._roster.key(site) is not None and site not in removed
        )
        # A second time for sites whose memory began elsewhere than we knew.
        for _ in range(2):
            requests = self._requests(waiting)
            answers = engine.exchange(
                WITNESS_STAGE,
                requests,
                deadline_s=_DEADLINE_S,
                quorum=len(requests),
                grace_s=_GRACE_S,
            )
            again = []
            for site, answer in answers.items():
                if isinstance(answer, Failure):
                    refused[site] = answer.code.value
                elif (reply := self._read(site, answer.body)) is None:
                    refused[site] = "malformed"
                elif reply.signature is None:
                    self._seen[site] = reply.kept_size
                    again.append(site)
                else:
                    self._seen[site] = head.size
                    signed[site] = reply.signature
            waiting = tuple(sorted(again))
            if not waiting:
                break
        refused |= dict.fromkeys(waiting, "another-history")
        self._record(signed, refused)
        return signed

    def _requests(self, sites: tuple[str, ...]) -> Mapping[str, bytes]:
        ledger = self._evidence.ledger
        head = ledger.head
        signature = head.sign(self._identity)
        old_sizes = {site: min(self._seen.get(site, 0), head.size) for site in sites}
        shown = {}
        for old in set(old_sizes.values()):
            proof = ledger.consistency_proof(old, size=head.size) if old else ()
            shown[old] = ShownHead(
                head=head, signature=signature, old_size=old, proof=tuple(proof)
            ).to_bytes()
        return {site: shown[old] for site, old in old_sizes.items()}

    def _read(self, site: str, body: bytes) -> WitnessReply | None:
        try:
            reply = WitnessReply.from_bytes(body)
        except ValueError:
            return None
        key = self._roster.key(site)
        head = self._evidence.ledger.head
        if reply.signature is not None and (
            key is None or not head.is_signed(reply.signature, by=key)
        ):
            return None
        return reply

    def _record(self, signed: dict[str, bytes], missing: dict[str, str]) -> None:
        ledger = self._evidence.ledger
        ledger.append(
            Event.WITNESSED,
            head=ledger.head.to_dict(),
            signatures={
                site: base64.b64encode(signature).decode() for site, signature in signed.items()
            },
            missing=missing,
        )
