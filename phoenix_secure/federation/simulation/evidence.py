"""The evidence of a run in one process: the server's ledger, and every site's own memory of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.evidence import Entry, Event, read_ledger
from phoenix_secure.evidence.witness import Witness
from phoenix_secure.federation.engines.exchange import Engine, Failure, OnReply, Reply
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.stages import WITNESS_STAGE
from phoenix_secure.federation.run.evidence import RunEvidence, heads_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.server.recorded_round import RecordedAggregator, Witnesses
from phoenix_secure.federation.site.witness import with_witness

__all__ = ["EmbeddedEvidence"]

Handler = Callable[[str, bytes], bytes]


class EmbeddedEvidence:
    """Keys, ledger and witnesses of the run in ``folder``."""

    def __init__(self, keys: RunKeys, evidence: RunEvidence, folder: Path) -> None:
        self._evidence = evidence
        self._roster = keys.roster
        self._witnesses = Witnesses(evidence, identity=keys.server, roster=keys.roster)
        self._sites = {
            name: Witness(
                heads_file(folder, name), identity=identity, server_key=keys.roster.server_key
            )
            for name, identity in keys.sites.items()
        }

    @classmethod
    def begin(
        cls, folder: RunFolder, *, config: RunConfig, sites: Iterable[str]
    ) -> EmbeddedEvidence:
        """Evidence of a new run; the parties get keys where secure rounds have not made them."""
        names = list(sites)
        if (folder.path / "roster.bin").exists() and (folder.path / "server").exists():
            keys = RunKeys.load(folder.path, sites=names)
        else:
            keys = RunKeys.create(folder.path, sites=names)
        evidence = RunEvidence.begin(
            folder, identity=keys.server, config=config, roster_hash=keys.roster.hash.hex()
        )
        return cls(keys, evidence, folder.path)

    @classmethod
    def open(cls, folder: RunFolder, *, sites: Iterable[str]) -> EmbeddedEvidence:
        """The evidence of a run that goes on.

        Raises:     CheckpointError or EvidenceError when it is missing or was changed.
        """
        keys = RunKeys.load(folder.path, sites=list(sites))
        return cls(keys, RunEvidence.open(folder, identity=keys.server), folder.path)

    def resumed(self, round_number: int) -> None:
        """The run goes on after this round."""
        self._evidence.resumed(round_number)

    def handler(self, site: str, handle: Handler) -> Handler:
        """What a site answers with: its witness first."""
        return with_witness(handle, self._sites[site])

    def recorded(
        self, inner: Aggregator, engine: Engine, *, privacy: PrivacyPlan | None
    ) -> RecordedAggregator:
        """``inner``, with every round in the ledger."""
        return RecordedAggregator(
            inner,
            self._evidence,
            witnesses=self._witnesses,
            engine=engine,
            privacy=privacy,
        )

    def finished(
        self, folder: RunFolder, *, round_number: int, quality: Mapping[str, Any] | None
    ) -> None:
        """Model and quality as they lie in the folder; then the sites sign for the last time."""
        if quality is not None:
            self._evidence.evaluated(quality, file=folder.path / "evaluation.json")
        self._evidence.exported(folder.model, round_number=round_number)
        self._witnesses.ask(_Direct(self._sites))

    def of(self, event: Event) -> list[Entry]:
        """All entries of one kind, oldest first."""
        return read_ledger(self._evidence.ledger.path).of(event)

    def audit_planned(self, **facts: Any) -> None:
        """Before what it fixes can be known; the sites sign it with whatever comes next."""
        self._evidence.ledger.append(Event.AUDIT_PLANNED, **facts)

    def audited(self, *, file: str, sha256: str) -> None:
        """An audit's result; the sites sign that they saw it, where all of their keys are here.

        Fewer signatures than before would hide those that the run has.
        """
        self._evidence.ledger.append(Event.AUDITED, file=file, sha256=sha256)
        if set(self._sites) == {site for site, _ in self._roster.members}:
            self._witnesses.ask(_Direct(self._sites))


class _Direct:
    """An engine for the one stage that is left when the sites' threads have ended."""

    def __init__(self, sites: Mapping[str, Witness]) -> None:
        self._handlers = {name: with_witness(_refuse, witness) for name, witness in sites.items()}
        self.sites = tuple(sorted(sites))

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply | Failure]:
        answers: dict[str, Reply | Failure] = {}
        for site, body in requests.items():
            try:
                reply = Reply(body=self._handlers[site](WITNESS_STAGE, body))
                if on_reply is None:
                    answers[site] = reply
                else:
                    answers[site] = on_reply(site, reply) or Reply(body=b"")
            except SiteFailure as failure:
                answers[site] = Failure(code=failure.code)
        return answers

    def close(self) -> None:
        """Nothing runs."""


def _refuse(stage: str, body: bytes) -> bytes:
    raise AssertionError(stage)
