"""A run over real sites: offer the plan, run the rounds over Flower, export the model.

The same rounds, aggregator, checkpoints and run folder as in one process; the server here has no
image, so it judges nothing (``phoenix-secure evaluate`` does, where somebody has reference images).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.engines.exchange import Engine, Failure
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.heterogeneity.between_machines import strategies_between_machines
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.round.stages import PLAN_STAGE
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan, plan_roster
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.summary import totals
from phoenix_secure.federation.secagg.privacy_plan import guarantee_of, plan_privacy
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.server.attempt import StageReport, patience_between_machines
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.plaintext_round import ClearAggregator
from phoenix_secure.federation.server.recorded_round import RecordedAggregator, Witnesses
from phoenix_secure.federation.server.rounds import run_rounds
from phoenix_secure.federation.server.secure_round import SecureAggregator
from phoenix_secure.pictures import save_curves
from phoenix_secure.privacy.guarantee import Guarantee
from phoenix_secure.rng import SeedTree

__all__ = ["FederatedRun"]

_PLAN_DEADLINE_S = 300.0
# A stage over a network takes seconds: heads are witnessed after the first round, every so many,
# and after the last one.
_WITNESSED_EVERY = 10

Observe = Callable[[StageReport], object]


class FederatedRun:
    """One run of the federation in ``server``.

    Raises:     ConfigError for settings that make no sense between machines.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        server: ServerFolder,
        observe: Observe = lambda report: None,
        make_engine: Callable[[str], Engine] | None = None,
    ) -> None:
        torch.set_num_threads(config.federation.threads_per_site)
        self.config = config
        self._server = server
        self._settings = server.settings()
        self._roster = server.roster()
        self._identity = server.identity(self._roster)
        self._observe = observe
        self._make_engine = make_engine or self._flower_engine
        self._bundle = make_bundle()
        self.plan = Plan.make(config, roster=self._roster, bundle_hash=bundle_hash(self._bundle))
        self._seeds = SeedTree(config.seed)
        if config.evaluation.num_images > 0:
            raise ConfigError(
                "the server of a federation has no images to judge with: set "
                "evaluation.num_images=0, and use `phoenix-secure evaluate` afterwards"
            )
        if config.audit.profile != "none":
            raise ConfigError(
                "the server of a federation has no members' images to attack with: set "
                "audit.profile=none, and use `phoenix-secure audit` where the images are"
            )
        self.model = GlobalModel(
            config,
            image_size=config.data.image_size or 0,
            channels=config.data.channels or 0,
            class_names=(),
            seeds=self._seeds,
            device=pick_devices(config.device)[0],
        )
        self.strategies = strategies_between_machines(
            config,
            seeds=self._seeds,
            device=pick_devices(config.device)[0],
            cache_dir=default_cache_dir(),
        )
        self.terms = None
        if config.secure_aggregation.mode == "on":
            self.terms = choose_terms(config, num_parameters=self.strategies.exchange.num_uploaded)
        self.privacy = plan_privacy(config, terms=self.terms)

    def guarantee(self) -> Guarantee:
        """What the run guarantees; what each site has spent is in its own ledger alone."""
        return guarantee_of(self.config, self.privacy)

    @property
    def sites(self) -> tuple[str, ...]:
        """Every member of the roster."""
        return tuple(site for site, _ in self._roster.members)

    def start(self, folder: RunFolder, *, overwrite: bool) -> ServerState:
        """Make the run folder and keep the initial state in it."""
        folder.create(self.config, overwrite=overwrite)
        return self._prepare(folder)

    def resume(self, folder: RunFolder) -> ServerState:
        """The newest state."""
        folder.remove_leftovers()
        if not folder.has_state:
            return self._prepare(folder)
        state = folder.load_state(config=self.config)
        self._evidence(folder).resumed(state.round_number)
        folder.keep_metrics_until(state.round_number)
        return state

    def _prepare(self, folder: RunFolder) -> ServerState:
        folder.write_versions()
        folder.remove_parties()
        if self.terms is not None:
            SecureJournal.create(folder.server_rounds)
        folder.write_json("federation.json", self._facts())
        RunEvidence.begin(
            folder,
            identity=self._identity,
            config=self.config,
            roster_hash=self.plan.roster_hash,
            plan=self.plan.hash,
        )
        state = ServerState.initial(
            self.strategies.start_vector(), federation=self.config.federation
        )
        folder.save_state(state, config=self.config)
        return state

    def rounds(self, state: ServerState, folder: RunFolder) -> Iterator[RoundReport]:
        """Run what is left, keeping state and metrics after every round.

        Raises:     TrainingError when too few sites accept the plan or answer.
        """
        with self._aggregator(folder) as aggregator:
            for new_state, report in run_rounds(
                state, config=self.config, aggregator=aggregator, seeds=self._seeds
            ):
                folder.append_metrics(report.to_dict())
                aggregator.checkpoint(new_state, report)
                folder.save_state(new_state, config=self.config)
                if _is_witnessed(new_state.round_number, last=self.config.federation.rounds):
                    aggregator.witness()
                every = self.config.output.samples_every_rounds
                if every > 0 and new_state.round_number % every == 0:
                    self.model.use(new_state)
                    self.model.save_grid(folder.samples_file(new_state.round_number))
                    save_curves(folder.read_metrics(), folder.path / "curves.png")
                yield report

    def finish(self, folder: RunFolder) -> dict[str, Any]:
        """Export the model and draw the last pictures. Can be repeated."""
        state = folder.load_state(config=self.config)
        self.model.use(state)
        self.model.export(folder.model)
        self.model.save_grid(folder.path / "samples.png")
        metrics = folder.read_metrics()
        save_curves(metrics, folder.path / "curves.png")
        summary = {
            **self._facts(),
            "rounds": state.round_number,
            "skipped_rounds": []
            if self.terms is None
            else list(SecureJournal(folder.server_rounds).given_up),
            "sites": len(self.sites),
            "num_parameters": int(state.parameters.size),
            **totals(metrics),
            "guarantee": self.guarantee().to_dict(),
        }
        folder.write_json("summary.json", summary)
        self._evidence(folder).exported(folder.model, round_number=state.round_number)
        return summary

    def _evidence(self, folder: RunFolder) -> RunEvidence:
        return RunEvidence.open(folder, identity=self._identity)

    def _facts(self) -> dict[str, Any]:
        return {
            "federation": self.plan.federation,
            "plan": self.plan.hash,
            "roster": self.plan.roster_hash,
            "bundle": self.plan.bundle_hash,
            "secure_aggregation": self.config.secure_aggregation.mode,
            "strategies": self.strategies.facts,
            "terms": None if self.terms is None else self.terms.to_dict(),
        }

    @contextlib.contextmanager
    def _aggregator(self, folder: RunFolder) -> Iterator[RecordedAggregator]:
        engine = self._make_engine(self.plan.hash)
        evidence = self._evidence(folder)
        try:
            self._offer_plan(engine)
            yield RecordedAggregator(
                self.strategies.aggregator(self._rounds(engine, folder)),
                evidence,
                witnesses=Witnesses(evidence, identity=self._identity, roster=self._roster),
                engine=engine,
                privacy=self.privacy,
            )
        finally:
            engine.close()

    def _rounds(self, engine: Engine, folder: RunFolder) -> Aggregator:
        """Sums in the clear, or secure ones."""
        if self.terms is None:
            return ClearAggregator(
                engine,
                federation=self.config.federation,
                num_uploaded=self.strategies.exchange.num_uploaded,
                hides_metrics=self.config.privacy.hides_metrics,
            )
        return SecureAggregator(
            engine,
            identity=self._identity,
            roster=plan_roster(self._roster, self.plan),
            terms=self.terms,
            journal=SecureJournal(folder.server_rounds),
            patience=patience_between_machines(self.config),
            max_attempts=self.config.secure_aggregation.max_attempts,
            num_threads=num_cores(),
            observe=self._observe,
        )

    def _offer_plan(self, engine: Engine) -> None:
        """Send the plan to every site that can be reached, and see who takes part.

        Raises:     TrainingError naming the sites that refused, with what they can do.
        """
        online = engine.sites
        answers = engine.exchange(
            PLAN_STAGE,
            dict.fromkeys(online, self.plan.to_bytes()),
            deadline_s=_PLAN_DEADLINE_S,
        )
        away = {site: "not connected" for site in self.sites if site not in online}
        missing = away | {
            site: answer.code.value
            for site, answer in answers.items()
            if isinstance(answer, Failure)
        }
        ready = len(self.sites) - len(missing)
        needed = self.config.federation.min_sites
        if self.terms is not None:
            needed = max(needed, self.terms.threshold)
        if ready < needed:
            listed = ", ".join(f"{site}: {why}" for site, why in sorted(missing.items()))
            raise TrainingError(
                f"plan {self.plan.hash[:16]}: {ready} of {len(self.sites)} sites take part and "
                f"{needed} are needed ({listed}). Where it says refused, the owner can read why "
                "with `phoenix-secure site log` and sign with `phoenix-secure site approve`; "
                "then resume"
            )

    def _flower_engine(self, session: str) -> Engine:
        return FlowerEngine(
            self._server.superlink(self._settings),
            nodes=self._server.nodes(self._roster),
            session=session,
            bundle=self._bundle,
            gather_s=self._settings.gather_s,
        )


def _is_witnessed(round_number: int, *, last: int) -> bool:
    return round_number in (1, last) or round_number % _WITNESSED_EVERY == 0
