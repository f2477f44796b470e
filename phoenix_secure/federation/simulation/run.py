"""A whole federation in one process: deal the images, run the rounds, export, judge.

Everything that touches the disk goes through the run folder; everything that is printed, through
the caller.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.canaries import write_canaries
from phoenix_secure.data.holdings_plot import save_holdings_plot
from phoenix_secure.data.partition import Holdings, deal_images, save_parts
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.split import save_split
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.federation.engines.client_app import client_app
from phoenix_secure.federation.engines.in_process import in_process_engine
from phoenix_secure.federation.heterogeneity.memory import Memory
from phoenix_secure.federation.heterogeneity.personal_models import PersonalModels, personal_state
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.heterogeneity.sharing import SharedImages, load_shared, shared_size
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evaluation import Judge
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.sampling import GlobalModel
from phoenix_secure.federation.run.summary import aggregation_summary, totals
from phoenix_secure.federation.run.trackers import metrics_writer
from phoenix_secure.federation.secagg.estimate import estimate_seconds
from phoenix_secure.federation.secagg.privacy_plan import (
    PrivacyPlan,
    check_images,
    guarantee_of,
    plan_privacy,
)
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.attempt import StageReport
from phoenix_secure.federation.server.plaintext_round import ClearAggregator
from phoenix_secure.federation.server.recorded_round import RecordedAggregator
from phoenix_secure.federation.server.rounds import run_rounds
from phoenix_secure.federation.simulation.evidence import EmbeddedEvidence
from phoenix_secure.federation.simulation.parties import Parties, create_parties
from phoenix_secure.federation.simulation.sites import embedded_workers, spent_events
from phoenix_secure.federation.site.privacy import make_trainer
from phoenix_secure.pictures import save_curves
from phoenix_secure.privacy.guarantee import Guarantee
from phoenix_secure.rng import SeedTree

__all__ = ["EmbeddedFederation"]

Progress = Callable[[str, int], object]
Observe = Callable[[StageReport], object]


class EmbeddedFederation:
    """One run, from settings to a model folder.

    Everything that can be wrong with settings or data is found in the constructor, before the run
    folder is touched.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        cache_dir: Path,
        progress: Progress = lambda site, images: None,
        observe: Observe = lambda report: None,
    ) -> None:
        torch.set_num_threads(config.federation.threads_per_site)
        self.config = config
        self.devices = pick_devices(config.device)
        self._seeds = SeedTree(config.seed)
        self._progress = progress
        self._observe = observe
        self.holdings: Holdings = deal_images(config, seeds=self._seeds, cache_dir=cache_dir)
        images = self.holdings.image_set
        self.model = GlobalModel(
            config,
            image_size=images.image_size,
            channels=images.channels,
            class_names=images.class_names,
            seeds=self._seeds,
            device=self.devices[0],
        )
        self.strategies = RunStrategies(
            config,
            form=(images.channels, images.image_size),
            num_classes=images.num_classes,
            seeds=self._seeds,
            device=self.devices[0],
            load_shared=lambda: self._shared_images(cache_dir),
        )
        # None: every site's update will be seen by the server.
        self.terms: SecureTerms | None = None
        if config.secure_aggregation.mode == "on":
            self.terms = choose_terms(
                config,
                num_parameters=self.strategies.exchange.num_uploaded,
                largest_site=max(len(part) for part in self.holdings.parts.values()),
            )
        self.privacy: PrivacyPlan | None = plan_privacy(config, terms=self.terms)
        for name, part in self.holdings.parts.items():
            check_images(config, len(part), site=name)
        self.judge = Judge(config, self.holdings, seeds=self._seeds, device=self.devices[0])
        self._metrics_writer = metrics_writer(config)

    def _shared_images(self, cache_dir: Path) -> SharedImages:
        members = np.concatenate(list(self.holdings.parts.values()))
        images = self.holdings.image_set
        all_sites = images.take(members)
        return load_shared(
            self.config,
            size=shared_size(self.config.sharing, num_site_images=len(members)),
            form=(images.channels, images.image_size),
            class_names=images.class_names,
            seeds=self._seeds,
            cache_dir=cache_dir,
            site_images=SiteImages(images=all_sites.images, labels=all_sites.labels),
        )

    @property
    def num_workers(self) -> int:
        """Sites trained at once."""
        default = num_cores() if self.devices[0].type == "cpu" else len(self.devices)
        wanted = self.config.federation.workers or default
        return min(wanted, self.config.partition.num_sites)

    def seconds_per_step(self) -> float:
        """Measured time of one local step on the first device, for estimates."""
        steps = 3
        shorter = self.config.training.model_copy(
            update={"local_steps": steps, "local_epochs": None, "compile": False}
        )
        trainer = make_trainer(
            self.config.model_copy(update={"training": shorter}),
            self.privacy,
            num_classes=self.holdings.image_set.num_classes,
            device=self.devices[0],
        )
        site = self.holdings.site_images(next(iter(self.holdings.parts)))
        seeds = self._seeds.child("timing")
        updates = [
            trainer.train(self.model.initial_parameters, site, round_number=1, seeds=seeds)
            for _ in range(2)  # the first one also pays for allocation and kernel selection
        ]
        return updates[-1].seconds / steps

    def aggregation_seconds(self) -> float:
        """Measured time of one round's secure aggregation, for estimates; 0 where it is off."""
        if self.terms is None:
            return 0.0
        return estimate_seconds(self.terms, num_workers=self.num_workers)

    def start(self, folder: RunFolder, *, overwrite: bool) -> ServerState:
        """Make the run folder and keep the initial state in it."""
        folder.create(self.config, overwrite=overwrite)
        return self._prepare(folder)

    def resume(self, folder: RunFolder) -> ServerState:
        """The newest state, after checking that images and settings are those of the start.

        A run that was killed before its first checkpoint starts anew: it had done nothing yet.
        """
        folder.remove_leftovers()
        if not folder.has_state:
            return self._prepare(folder)
        state = folder.load_state(config=self.config)
        folder.check_split(self.holdings.image_set)
        self._evidence(folder).resumed(state.round_number)
        folder.keep_metrics_until(state.round_number)
        return state

    def _prepare(self, folder: RunFolder) -> ServerState:
        """What a run needs before its first round; the checkpoint comes last."""
        folder.write_versions()
        folder.remove_parties()
        if self.terms is not None:
            create_parties(folder, sites=self.holdings.parts)
        EmbeddedEvidence.begin(folder, config=self.config, sites=self.holdings.parts)
        save_split(self.holdings.split, folder.split_file)
        save_parts(self.holdings, folder.path / "sites.npz")
        if self.holdings.canaries is not None:
            write_canaries(self.holdings.canaries, folder.path / "canaries.npz")
        parts = list(self.holdings.parts.values())
        save_holdings_plot(
            self.holdings.image_set,
            parts,
            path=folder.path / "holdings.png",
            site_names=list(self.holdings.parts),
        )
        state = ServerState.initial(
            self.strategies.start_vector(), federation=self.config.federation
        )
        folder.save_state(state, config=self.config)
        return state

    def rounds(self, state: ServerState, folder: RunFolder) -> Iterator[RoundReport]:
        """Run what is left, keeping state, metrics and pictures after every round."""
        if self.privacy is None:
            # Under privacy a round that is repeated is not trained again: its answer was kept, and
            # so is what the site remembers of it.
            for site in self.holdings.parts:
                self._memory(folder, site).forget_after(state.round_number)
        with self._aggregator(folder) as aggregator:
            for new_state, report in run_rounds(
                state, config=self.config, aggregator=aggregator, seeds=self._seeds
            ):
                if self._is_due(new_state.round_number, self.config.evaluation.every_rounds):
                    self.model.use(new_state)
                    report = replace(report, quality=self.judge.quality_of(self.model))
                line = report.to_dict()
                # Metrics first: a line without its checkpoint is dropped by `resume`,
                # a checkpoint without its line would be missing for ever.
                folder.append_metrics(line)
                aggregator.checkpoint(new_state, report)
                folder.save_state(new_state, config=self.config)
                aggregator.witness()
                if self._is_due(new_state.round_number, self.config.output.samples_every_rounds):
                    self.model.use(new_state)
                    self.model.save_grid(folder.samples_file(new_state.round_number))
                    save_curves(folder.read_metrics(), folder.path / "curves.png")
                self._metrics_writer(folder.path, line)
                yield report

    def finish(self, folder: RunFolder) -> dict[str, Any]:
        """Export the model, draw the last pictures, judge it. Can be repeated."""
        state = folder.load_state(config=self.config)
        self.model.use(state)
        self.model.export(folder.model)
        self.model.save_grid(folder.path / "samples.png")
        metrics = folder.read_metrics()
        save_curves(metrics, folder.path / "curves.png")
        quality = self.judge.quality_of(self.model) if self.judge.is_on else None
        if quality is not None:
            folder.write_json("evaluation.json", quality)
        personal = self._personal_quality(folder, state)
        summary = {
            "rounds": state.round_number,
            "sites": len(self.holdings.parts),
            "num_parameters": int(state.parameters.size),
            **totals(metrics),
            "quality": quality,
            **({} if personal is None else {"quality_personal": personal}),
            "strategies": self.strategies.facts,
            "guarantee": self.guarantee(folder).to_dict(),
            **aggregation_summary(metrics, terms=self.terms),
        }
        folder.write_json("summary.json", summary)
        self._evidence(folder).finished(folder, round_number=state.round_number, quality=quality)
        return summary

    def guarantee(self, folder: RunFolder | None = None) -> Guarantee:
        """What the run guarantees; with a folder, also what each site has spent so far."""
        spent = {}
        if folder is not None and self.privacy is not None:
            spent = spent_events(folder, sites=self.holdings.parts)
        sizes = {site: len(part) for site, part in self.holdings.parts.items()}
        return guarantee_of(self.config, self.privacy, spent=spent, images=sizes)

    def _evidence(self, folder: RunFolder) -> EmbeddedEvidence:
        return EmbeddedEvidence.open(folder, sites=self.holdings.parts)

    def _memory(self, folder: RunFolder, site: str) -> Memory:
        return self.strategies.memory(folder.path / "sites" / site / "memory")

    def personal_models(self, folder: RunFolder, state: ServerState) -> PersonalModels | None:
        """All sites' personal models, or None where nothing is personal. For research: between
        machines each site can only draw from its own."""
        exchange = self.strategies.exchange
        if exchange.num_personal == 0:
            return None
        states = {
            site: personal_state(
                state,
                exchange=exchange,
                remembered=self._memory(folder, site).before(state.round_number + 1),
            )
            for site in self.holdings.parts
        }
        weights = {site: len(part) for site, part in self.holdings.parts.items()}
        return PersonalModels(self.model, states=states, weights=weights)

    def _personal_quality(self, folder: RunFolder, state: ServerState) -> dict[str, Any] | None:
        """Export the personal models into their sites' folders, and judge them together."""
        models = self.personal_models(folder, state)
        if models is None:
            return None
        for site in self.holdings.parts:
            models.use(site)
            self.model.export(folder.path / "sites" / site / "model")
        quality = self.judge.quality_of(models) if self.judge.is_on else None
        self.model.use(state)
        return quality

    @contextlib.contextmanager
    def _aggregator(self, folder: RunFolder) -> Iterator[RecordedAggregator]:
        """Sites as threads of this process, and how the server sums what they answer."""
        parties = None if self.terms is None else Parties(folder, terms=self.terms)
        cancelled = threading.Event()
        evidence = self._evidence(folder)
        handlers = {
            name: evidence.handler(name, worker.handle)
            for name, worker in embedded_workers(
                self.config,
                holdings=self.holdings,
                strategies=self.strategies,
                privacy=self.privacy,
                parties=parties,
                devices=self.devices,
                seeds=self._seeds,
                folder=folder,
                cancelled=cancelled,
                progress=self._progress,
            ).items()
        }
        engine = in_process_engine(
            client_app(lambda site, stage, body: handlers[site](stage, body)),
            sites=list(handlers),
            num_workers=self.num_workers,
            on_close=cancelled.set,
        )
        try:
            if parties is None:
                inner: Aggregator = ClearAggregator(
                    engine,
                    federation=self.config.federation,
                    num_uploaded=self.strategies.exchange.num_uploaded,
                    hides_metrics=self.config.privacy.hides_metrics,
                )
            else:
                inner = parties.aggregator(engine, config=self.config, observe=self._observe)
            yield evidence.recorded(self.strategies.aggregator(inner), engine, privacy=self.privacy)
        finally:
            engine.close()

    def _is_due(self, round_number: int, every: int) -> bool:
        """Every so many rounds; the last round is left to ``finish``."""
        return every > 0 and round_number % every == 0 and round_number < self._last_round

    @property
    def _last_round(self) -> int:
        return self.config.federation.rounds
