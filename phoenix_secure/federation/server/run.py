"""One run, from settings to a model folder, over simulated or deployed sites."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from phoenix_secure.config import RunConfig
from phoenix_secure.device import num_cores
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.exclusions import Exclusion
from phoenix_secure.federation.round.report import (
    FitReport,
    RoundReport,
    RunEvent,
    StageReport,
)
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.marks import own_encoder, signer_folder
from phoenix_secure.federation.run.released_model import ReleasedModel
from phoenix_secure.federation.run.selected_model import SelectedModel
from phoenix_secure.federation.run.summary import RunSummary
from phoenix_secure.federation.run.trackers import Trackers
from phoenix_secure.federation.server.backend import Backend
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.model_chain import ModelChain
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.plaintext_round import PlaintextAggregator
from phoenix_secure.federation.server.pooled_stage import PooledAuditor, audit_at_sites
from phoenix_secure.federation.server.recorded_round import RecordedAggregator, Witnesses
from phoenix_secure.federation.server.roster_watch import RosterWatch, WatchedAggregator
from phoenix_secure.federation.server.rounds import FinishedRound, GivenUpRound, run_rounds
from phoenix_secure.federation.server.secure_round import SecureAggregator
from phoenix_secure.federation.server.sums import KeptSums
from phoenix_secure.marks.signer import MarkSigner
from phoenix_secure.pictures import save_curves
from phoenix_secure.rng import SeedTree

__all__ = ["Run", "build_aggregator", "require_startable"]


def require_startable(backend: Backend) -> None:
    """Refuse what can be planned with ``backend`` and not be run.

    Raises:     ConfigError naming the setting.
    """
    if isinstance(backend.model, SelectedModel):
        _ = backend.model.release


class Run:
    """A run over the sites of ``backend``.

    The backend's constructor finds everything that can be wrong with settings or data, before the
    run folder is touched. All of a run's files go through the run folder; nothing is printed.
    """

    def __init__(self, backend: Backend, *, auditor: PooledAuditor | None = None) -> None:
        """``auditor`` makes plan and report of a pooled audit (``audit.at_sites``)."""
        self.backend = backend
        self.config: RunConfig = backend.config
        if self.config.audit.at_sites and auditor is None:
            raise ValueError("expected an auditor for audit.at_sites")
        self._auditor = auditor if self.config.audit.at_sites else None
        self._trackers = Trackers(backend.config, privacy=backend.privacy)

    def start(self, folder: RunFolder, *, overwrite: bool) -> ServerState:
        """Make the run folder and keep the initial state in it."""
        require_startable(self.backend)
        folder.create(self.config, overwrite=overwrite)
        return self._prepare(folder)

    def resume(self, folder: RunFolder) -> ServerState:
        """Return the newest state, after checking that images and settings are those of the start.

        A run that was killed before its first checkpoint starts again: it had done nothing yet.
        """
        folder.remove_leftovers()
        if not folder.has_state:
            return self._prepare(folder)
        state = folder.load_state(config=self.config)
        self.backend.check(folder)
        federation = self.config.federation
        self._evidence(folder).resumed(
            state.round_number,
            rounds=None if federation.first_rounds is None else federation.rounds,
        )
        folder.keep_metrics_until(state.round_number)
        return state

    def _prepare(self, folder: RunFolder) -> ServerState:
        """Write what a run needs before its first round; the checkpoint comes last."""
        folder.write_versions()
        folder.remove_parties()
        if self.backend.terms is not None:
            SecureJournal.create(folder.server_rounds)
        self.backend.prepare(folder)
        deployment, party = self.backend.deployment, self.backend.party(folder)
        RunEvidence.begin(
            folder,
            identity=party.identity,
            config=self.config,
            roster=party.roster,
            plan=None if deployment is None else deployment.plan,
        )
        if self._auditor is not None:
            self._evidence(folder).audit_planned(stage="terms", terms=self._auditor.terms)
        state = ServerState.initial(
            self.backend.strategies.start_vector(), federation=self.config.federation
        )
        folder.save_state(state, config=self.config)
        return state

    def rounds(self, state: ServerState, folder: RunFolder) -> Iterator[RoundReport]:
        """Run what is left, yielding each round's report: ``events`` without the stages."""
        with contextlib.closing(self.events(state, folder)) as events:
            yield from (event for event in events if isinstance(event, RoundReport))

    def events(self, state: ServerState, folder: RunFolder) -> Generator[RunEvent, None, None]:
        """Run what is left, yielding a report after every stage and every round, and in a release
        while the server fits to the sum.

        State, metrics and pictures of a round are on the disk before its report is yielded.

        Raises:     TrainingError when too few sites answer.
        """
        engine = self.backend.connect(folder, state=state)
        try:
            party, evidence = self.backend.party(folder), self._evidence(folder)
            watch = RosterWatch(party, engine, evidence)
            witnesses = Witnesses(
                evidence, identity=party.identity, roster=party.roster, epoch=lambda: watch.epoch
            )
            recorded = RecordedAggregator(
                build_aggregator(
                    self.backend,
                    engine,
                    party=party,
                    folder=folder,
                    state=state,
                    on_excluded=evidence.excluded,
                    epoch=lambda: watch.epoch,
                ),
                evidence,
                privacy=self.backend.privacy,
            )
            aggregator = WatchedAggregator(recorded, watch)
            seeds = SeedTree(self.config.seed)
            for event in run_rounds(state, config=self.config, aggregator=aggregator, seeds=seeds):
                if isinstance(event, StageReport):
                    yield event
                    continue
                if isinstance(event, GivenUpRound):
                    folder.save_state(event.state, config=self.config)
                    continue
                report = self._keep(event, folder, evidence)
                if self._is_witnessed(report.round_number):
                    witnesses.ask(engine)
                self._trackers.round(folder.path, report.to_dict())
                self._draw(event.state, folder, evidence)
                yield report
            if self._auditor is not None:
                yield from self._audit(folder, engine=engine, watch=watch, evidence=evidence)
                witnesses.ask(engine)
        finally:
            engine.close()
        # The sites have answered: what follows needs nothing but the sum.
        yield from self._learn(folder)

    def _audit(
        self, folder: RunFolder, *, engine: Engine, watch: RosterWatch, evidence: RunEvidence
    ) -> Iterator[StageReport]:
        """Let the sites attack the final model with their own images."""
        state, party = folder.load_state(config=self.config), self.backend.party(folder)

        def epoch() -> RoundEpoch:
            return watch.epoch

        chain = _chain(
            self.backend,
            state,
            party=party,
            folder=folder,
            journal=SecureJournal(folder.server_rounds),
            epoch=epoch,
        )
        if self._auditor is None or chain is None:
            raise AssertionError("who checked the settings refused a model that the server sends")
        yield from audit_at_sites(
            self.backend,
            self._auditor,
            engine=engine,
            party=party,
            chain=chain,
            folder=folder,
            state=state,
            evidence=evidence,
            begin=lambda: watch.round_begins(state.round_number),
            epoch=epoch,
        )

    def _learn(self, folder: RunFolder) -> Iterator[FitReport]:
        if isinstance(self.backend.model, ReleasedModel | SelectedModel):
            state = folder.load_state(config=self.config)
            yield from self.backend.model.learn(state, folder)

    def _keep(
        self, finished: FinishedRound, folder: RunFolder, evidence: RunEvidence
    ) -> RoundReport:
        """Write metrics, evidence and state of a round."""
        state, report, evaluator = finished.state, finished.report, self.backend.evaluator
        every = self.config.evaluation.every_rounds
        if evaluator is not None and self._is_due(state.round_number, every):
            self.backend.model.use(state)
            report = replace(report, quality=evaluator.quality_of(self.backend.model))
        # Metrics first: a line without its checkpoint is dropped by `resume`,
        # a checkpoint without its line would be missing for ever.
        folder.append_metrics(report.to_dict())
        evidence.checkpoint(state, report)
        folder.save_state(state, config=self.config)
        return report

    def _draw(self, state: ServerState, folder: RunFolder, evidence: RunEvidence) -> None:
        if self._is_due(state.round_number, self.config.output.samples_every_rounds):
            self.backend.model.use(state)
            path = folder.samples_file(state.round_number)
            encode = own_encoder(folder, self.config, run=evidence.ledger.id)
            self.backend.model.save_grid(path, encode=encode)
            self._trackers.samples(folder.path, step=state.round_number, picture=path)
            save_curves(folder.read_metrics(), folder.path / "curves.png")

    def finish(self, folder: RunFolder) -> RunSummary:
        """Export the model, write the last pictures, evaluate its samples. Can be repeated."""
        backend, model = self.backend, self.backend.model
        state = folder.load_state(config=self.config)
        for _ in self._learn(folder):
            pass  # learned before, unless the caller read no events
        model.use(state)
        model.export(folder.model)
        guarantee = backend.guarantee(folder)
        samples, evidence = folder.path / "samples.png", self._evidence(folder)
        encode = own_encoder(folder, self.config, run=evidence.ledger.id, guarantee=guarantee.text)
        model.save_grid(samples, encode=encode)
        metrics = folder.read_metrics()
        save_curves(metrics, folder.path / "curves.png")
        evidence.marked(samples, signer=MarkSigner.kept(signer_folder(folder)))
        quality = None if backend.evaluator is None else backend.evaluator.quality_of(model)
        if quality is not None:
            folder.write_json("evaluation.json", quality)
            evidence.evaluated(quality, file=folder.path / "evaluation.json")
        summary = RunSummary.of_rounds(
            metrics,
            num_rounds=state.round_number,
            num_sites=len(backend.sites),
            num_parameters=int(state.parameters.size),
            terms=None if backend.terms is None else backend.terms.record,
        )
        summary = replace(
            summary,
            quality=quality,
            quality_personal=backend.personal_quality(folder, state),
            strategies=backend.strategies.facts,
            guarantee=guarantee.to_dict(),
            deployment=backend.deployment,
            skipped_rounds=self._skipped_rounds(folder),
            release=model.facts if isinstance(model, ReleasedModel) else None,
        )
        folder.write_json("summary.json", summary.to_dict())
        self._trackers.finished(
            folder.path, step=state.round_number, quality=quality, picture=samples
        )
        if isinstance(model, ReleasedModel):
            evidence.exported(folder.path / "generator", round_number=state.round_number)
        evidence.exported(folder.model, round_number=state.round_number)
        engine = backend.witnesses(folder)
        if engine is not None:
            party = backend.party(folder)
            Witnesses(evidence, identity=party.identity, roster=party.roster).ask(engine)
        return summary

    def _skipped_rounds(self, folder: RunFolder) -> tuple[int, ...]:
        return () if self.backend.terms is None else SecureJournal(folder.server_rounds).given_up

    def _evidence(self, folder: RunFolder) -> RunEvidence:
        return RunEvidence.open(folder, identity=self.backend.party(folder).identity)

    def _is_due(self, round_number: int, every: int) -> bool:
        """Every so many rounds; the last round is left to ``finish``."""
        return every > 0 and round_number % every == 0 and round_number < self._last_round

    def _is_witnessed(self, round_number: int) -> bool:
        if round_number in (1, self._last_round):
            return True
        return round_number % self.backend.witness_every == 0

    @property
    def _last_round(self) -> int:
        return self.config.federation.rounds


def build_aggregator(
    backend: Backend,
    engine: Engine,
    *,
    party: ServerParty,
    folder: RunFolder,
    state: ServerState,
    on_excluded: Callable[[Exclusion], object] = lambda exclusion: None,
    epoch: Callable[[], RoundEpoch] | None = None,
) -> Aggregator:
    """The way in which the server sums what the sites of ``engine`` answer, from ``state`` on.

    epoch   the roster in force in the round that begins; None where it does not change
    """
    config, terms = backend.config, backend.terms
    fixed = RoundEpoch.fixed(party.round_roster)
    epoch = epoch or (lambda: fixed)
    if terms is None:
        inner: Aggregator = PlaintextAggregator(
            engine,
            federation=config.federation,
            num_uploaded=backend.strategies.exchange.num_uploaded,
            hides_metrics=config.privacy.hides_metrics,
            epoch=epoch,
        )
    else:
        journal = SecureJournal(folder.server_rounds)
        inner = SecureAggregator(
            engine,
            party=party,
            terms=terms,
            journal=journal,
            timeouts=backend.timeouts,
            max_attempts=config.secure_aggregation.max_attempts,
            num_threads=num_cores(),
            on_excluded=on_excluded,
            chain=_chain(backend, state, party=party, folder=folder, journal=journal, epoch=epoch),
            epoch=epoch,
        )
    return backend.strategies.aggregator(inner)


def _chain(
    backend: Backend,
    state: ServerState,
    *,
    party: ServerParty,
    folder: RunFolder,
    journal: SecureJournal,
    epoch: Callable[[], RoundEpoch],
) -> ModelChain | None:
    """The model as all sites compute it; None where the server sends one."""
    rule = backend.rule
    if rule is None:
        return None
    return ModelChain(
        state,
        rule=rule,
        roster=party.round_roster,
        sums=KeptSums(
            folder.server_sums,
            # One more than the checkpoints: the oldest of those may have to be gone on from.
            keep=backend.config.output.keep_checkpoints + 1,
            packed_size=rule.step.packed_size,
        ),
        journal=journal,
        holding=backend.sites if backend.sites_forget else None,
        epoch=epoch,
    )
